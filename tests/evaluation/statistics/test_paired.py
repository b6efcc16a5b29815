"""Paired statistics: differences, their intervals, permutation p, Holm's rule."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headwise.evaluation.statistics.multiple import holm
from headwise.evaluation.statistics.paired import Difference, difference, permutation_p
from headwise.evaluation.task import Metric, mean, ratio


def _perplexity(nll, tokens, axis=-1):
    return np.exp(nll.sum(axis=axis) / tokens.sum(axis=axis))


MEAN = mean("x", unit="points")
RATIO = ratio("bad", "all", higher_is_better=False)
PERPLEXITY = Metric("perplexity", ("nll", "tokens"), _perplexity, "perplexity", False)


def runs(metric, n, seed):
    """Two (column, example) tables of a metric."""
    rng = np.random.default_rng(seed)
    count = len(metric.columns)
    before = rng.integers(1, 6, (count, n)).astype(float)
    after = before + rng.integers(0, 2, (count, n)) * rng.choice([-1, 1, 1], (count, n))
    return before, after


def twin(statistic, before, after):
    """Two-sided p by trying every exchange, one after the other."""
    n = before.shape[1]
    seen = abs(statistic(*after) - statistic(*before))
    extreme = 0
    for exchanged in itertools.product([False, True], repeat=n):
        one = np.where(exchanged, after, before)
        two = np.where(exchanged, before, after)
        extreme += abs(statistic(*two) - statistic(*one)) >= seen - 1e-12
    return extreme / 2**n


@pytest.mark.parametrize("metric", [MEAN, RATIO, PERPLEXITY], ids=lambda metric: metric.name)
@pytest.mark.parametrize("seed", range(4))
def test_exact_p_is_that_of_every_exchange(metric, seed):
    before, after = runs(metric, 8, seed)
    p, method = permutation_p(metric.statistic, before, after, seed=0)
    assert p == twin(metric.statistic, before, after)
    assert method.startswith("exact")


def test_scipy_says_the_same_of_a_mean():
    before, after = runs(MEAN, 10, 3)
    ours, _ = permutation_p(MEAN.statistic, before, after, seed=0)
    theirs = stats.permutation_test(
        (after[0], before[0]),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert ours == pytest.approx(theirs.pvalue)


def test_by_hand_five_of_five_become_right():
    one, two = {"x": [0, 0, 0, 0, 0, 1]}, {"x": [1, 1, 1, 1, 1, 1]}
    found = difference(mean("x"), one, two, seed=0)
    assert found.value == pytest.approx(5 / 6)
    assert found.p == 2 / 32  # all five, in one direction or the other, out of 2 ** 5 exchanges
    assert found.n == 6


@settings(deadline=None)
@given(st.integers(0, 7), st.integers(0, 7))
def test_flips_are_tested_as_by_mcnemar(up, down):
    before = np.array([[0.0] * up + [1.0] * down + [1.0] * 5])
    after = np.array([[1.0] * up + [0.0] * down + [1.0] * 5])
    p, _ = permutation_p(mean("x").statistic, before, after, seed=0, shuffles=2**15)
    exact = stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert p == pytest.approx(exact)


def test_random_exchanges_come_near_the_exact_p():
    before, after = runs(RATIO, 20, 11)
    differs = int((before != after).any(0).sum())
    assert differs > 9
    drawn, method = permutation_p(RATIO.statistic, before, after, seed=5, shuffles=500)
    exact, _ = permutation_p(RATIO.statistic, before, after, seed=5, shuffles=2**differs)
    assert method == "permutation test, 500 random exchanges"
    assert abs(drawn - exact) < 4 * math.sqrt(exact * (1 - exact) / 500) + 1 / 501
    assert drawn >= 1 / 501  # the one seen counts


@pytest.mark.parametrize("metric", [MEAN, RATIO, PERPLEXITY], ids=lambda metric: metric.name)
def test_exchanging_the_runs_turns_the_sign_and_nothing_else(metric):
    one, two = (dict(zip(metric.columns, rows.tolist(), strict=True)) for rows in runs(metric, 12, 7))
    there, back = difference(metric, one, two, seed=0), difference(metric, two, one, seed=0)
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == back.p


@pytest.mark.parametrize("metric", [MEAN, RATIO, PERPLEXITY], ids=lambda metric: metric.name)
def test_the_interval_is_that_of_resampled_pairs(metric):
    before, after = runs(metric, 60, 2)
    one, two = (dict(zip(metric.columns, rows.tolist(), strict=True)) for rows in (before, after))
    found = difference(metric, one, two, seed=0)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):  # the slow way: whole pairs, the number pooled anew
        rows = rng.integers(0, 60, 60)
        drawn.append(metric.statistic(*after[:, rows]) - metric.statistic(*before[:, rows]))
    spread = np.std(drawn)
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.3 * spread)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.3 * spread)
    assert found.low <= found.value <= found.high


def test_what_never_differs_is_no_proof_that_it_cannot():
    found = difference(mean("x"), {"x": [1, 0] * 25}, {"x": [1, 0] * 25}, seed=0)
    assert (found.value, found.p) == (0, 1)
    assert found.high == -found.low == pytest.approx(1.96 * math.sqrt(2) / 52, abs=1e-3)
    always = difference(mean("x"), {"x": [0] * 50}, {"x": [1] * 50}, seed=0)
    assert always.low == pytest.approx(50 / 52 - 1.96 * math.sqrt((1 - (50 / 52) ** 2) / 52), abs=1e-3)
    assert always.high == 1.0
    pooled = difference(RATIO, {"bad": [1, 2], "all": [3, 4]}, {"bad": [1, 2], "all": [3, 4]}, seed=0)
    assert (pooled.low, pooled.high, pooled.p) == (0, 0, 1)


def flipped(up, down, n):
    """Right and wrong before and after, of `n` examples of which some become right and others wrong."""
    rest = [1.0] * (n - up - down)
    return {"x": [0.0] * up + [1.0] * down + rest}, {"x": [1.0] * up + [0.0] * down + rest}


@pytest.mark.parametrize("up", range(1, 12))
@pytest.mark.parametrize("size", [1, 5])
def test_changes_in_one_direction_are_clear_by_the_interval_when_they_are_by_p(up, size):
    one, two = flipped(up, 0, 200)
    groups = [str(place) for place in range(200) for _ in range(size)]
    one, two = ({"x": np.repeat(side["x"], size)} for side in (one, two))
    found = difference(mean("x"), one, two, seed=0, groups=groups)
    assert found.value == pytest.approx(up / 200)
    assert (found.low > 0) == (found.p < 0.05) == (up > 5)
    assert found.disagreement == ""


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 16), st.integers(0, 16), st.integers(32, 200), st.floats(1, 4))
def test_interval_and_p_disagree_only_near_the_border_and_with_a_reason(up, down, n, tests):
    found = difference(mean("x"), *flipped(up, down, n), seed=0)
    assert found.low <= found.value <= found.high
    apart = found.low > 0 or found.high < 0
    assert bool(found.disagreement) == (apart != (found.p < 0.05))
    assert not found.disagreement or 0.04 < found.p < 0.08
    told = replace(found, p_holm=min(tests * found.p, 1.0))
    assert bool(told.disagreement) == (apart != (told.p_holm < 0.05))
    assert ("adjusted" in told.disagreement) == (apart and found.p < 0.05 <= told.p_holm)


def test_a_pair_without_a_value_on_one_side_is_left_out():
    nan = float("nan")
    found = difference(MEAN, {"x": [1, nan, 2, 3]}, {"x": [2, 5, nan, 3]}, seed=0)
    assert (found.n, found.value) == (2, 0.5)
    none = difference(MEAN, {"x": [1, nan]}, {"x": [nan, 1]}, seed=0)
    assert none.n == 0
    assert all(math.isnan(number) for number in (none.value, none.low, none.high, none.p))
    assert repr(Difference.from_dict(none.to_dict())) == repr(none)


def test_a_gain_is_what_is_better():
    fewer = difference(RATIO, {"bad": [2, 3], "all": [4, 4]}, {"bad": [1, 1], "all": [4, 4]}, seed=0)
    assert fewer.value == -3 / 8
    assert fewer.gain == 3 / 8
    neither = difference(mean("x", higher_is_better=None), {"x": [1, 2]}, {"x": [1, 3]}, seed=0)
    assert math.isnan(neither.gain)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.5; none falls below the one before
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.2]) == [0.2]
    some = holm([0.02, float("nan"), 0.03])
    assert some[0] == some[2] == 0.04
    assert math.isnan(some[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_the_order_and_never_helps(values):
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    assert all(q <= min(1, p * len(values)) + 1e-12 for p, q in zip(values, adjusted, strict=True))
    for one, two in itertools.combinations(range(len(values)), 2):
        if values[one] < values[two]:
            assert adjusted[one] <= adjusted[two]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=9))
def test_p_is_a_probability_and_at_least_one_of_all_exchanges(pairs):
    before, after = (np.array([side], dtype=float) for side in zip(*pairs, strict=True))
    p, _ = permutation_p(MEAN.statistic, before, after, seed=0)
    assert 2.0 ** -len(pairs) <= p <= 1


def p_of_chance(metric, n, seed, *, rate=0.3):
    """A run against itself, where chance alone decides which reply is whose."""
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, 2, (2, len(metric.columns), n)).astype(float)
    two = np.where(rng.random(n) < rate, two, one)
    if len(metric.columns) == 2:
        one[1] = two[1] = 1.0 + rng.integers(0, 3, n)
    return permutation_p(metric.statistic, one, two, seed=seed)[0]


@pytest.mark.parametrize("metric", [MEAN, RATIO], ids=lambda metric: metric.name)
def test_chance_is_seldom_taken_for_a_difference(metric):
    found = np.array([p_of_chance(metric, 30, seed) for seed in range(300)])
    for level in (0.05, 0.1, 0.25, 0.5):
        noise = 3 * math.sqrt(level * (1 - level) / len(found))
        assert (found <= level).mean() <= level + noise


@pytest.mark.slow  # 400 tests of 9,999 exchanges
def test_p_of_chance_is_nearly_uniform():
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        one, two = rng.normal(size=(2, 1, 60))
        found.append(permutation_p(MEAN.statistic, one, two, seed=seed)[0])
    assert stats.kstest(found, "uniform").pvalue > 0.01
