"""Intervals by kind of number, and examples that belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headwise.evaluation import Example, compare, evaluate
from headwise.evaluation.data.groups import group_of, groups_of
from headwise.evaluation.statistics.estimate import caution, estimate
from headwise.evaluation.statistics.intervals import (
    BCA,
    BOOTSTRAP,
    BOUND,
    RESAMPLES,
    interval,
    resampled,
    wilson,
)
from headwise.evaluation.statistics.paired import difference, permutation_p
from headwise.evaluation.task import mean, ratio
from tests.kit.comparisons import SILENT, Next, small_subject

RATE = ratio("wrong", "said", name="chair_i")
ERRORS = ratio("wrong", "said", name="wer", unit="errors per word")


def rate(n: int, seed: int, chance: float = 0.2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    said = 1 + rng.poisson(3, n)
    return {"wrong": rng.binomial(said, chance), "said": said}


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(case):
    count, n = case
    theirs = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert wilson(count, n) == pytest.approx((theirs.low, theirs.high))


def test_resamples_within_strata_hold_as_many_of_each():
    """A sum that is the same for every resample, unless one of the two kinds is drawn more often."""
    kind = np.array([0.0] * 3 + [1.0] * 7)
    drawn = resampled([kind], lambda x, axis: x.sum(axis=axis), seed=0, strata=kind)
    assert len(drawn) == RESAMPLES
    assert set(drawn) == {7.0}
    assert len(set(resampled([kind], lambda x, axis: x.sum(axis=axis), seed=0))) > 3
    groups = np.array([0, 0, 1, 2, 2, 2, 3, 3, 3, 3])
    whole = resampled(
        [kind, groups], lambda _, g, axis: (g == 0).sum(axis=axis), seed=0, groups=groups, strata=kind
    )
    assert set(whole) == {0, 2, 4}


@pytest.mark.parametrize("n", [20, 200])
def test_one_error_more_never_lowers_the_upper_end(n):
    ends = [estimate(mean("x"), {"x": [1.0] * k + [0.0] * (n - k)}, seed=0).high for k in range(n + 1)]
    assert ends == sorted(ends)


def test_a_rate_of_counts_has_the_interval_that_scipy_calls_bca():
    table = rate(120, 3)
    found = estimate(ERRORS, table, seed=0)
    theirs = stats.bootstrap(
        (table["wrong"], table["said"]), ERRORS.statistic, paired=True, vectorized=True, n_resamples=2000, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-3)
    assert found.method == BCA


@pytest.mark.parametrize("n", [20, 100])
def test_where_nothing_was_counted_the_interval_is_not_of_no_width(n):
    said = np.full(n, 4.0)
    none = estimate(ERRORS, {"wrong": np.zeros(n), "said": said}, seed=0)
    assert (none.value, none.low) == (0, 0)
    assert none.method == BOUND + ("; too narrow: fewer than 100 examples" if n < 100 else "")
    assert none.high == pytest.approx(wilson(0, n)[1] / 4)
    share = estimate(RATE, {"wrong": np.zeros(n), "said": said}, seed=0)
    assert (share.value, share.low, share.method) == (0, 0, "Wilson, groups")
    worth = n * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, n - 1)) ** 2
    assert share.high == pytest.approx(
        wilson(0, worth)[1]
    )  # by hand: every caption is worth one, whatever it says
    every = estimate(RATE, {"wrong": said, "said": said}, seed=0)
    assert (every.high, every.low) == (1, pytest.approx(1 - share.high))


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=2, max_size=40),
    st.integers(2, 5),
)
def test_a_share_counts_groups_however_they_are_written(groups, copies):
    """As rows of 0 and 1 under group names, or as counts of an example: yes-no's pairs and POPE's are one number."""
    rows = [float(right) for group in groups for right in group]
    names = [str(place) for place, group in enumerate(groups) for _ in group]
    counts = {
        "wrong": [float(sum(group)) for group in groups],
        "said": [float(len(group)) for group in groups],
    }
    single, counted = estimate(mean("x"), {"x": rows}, seed=0, groups=names), estimate(RATE, counts, seed=0)
    if len(rows) > len(groups):
        assert (counted.low, counted.high) == pytest.approx((single.low, single.high))
        assert counted.method == single.method
    for metric, table, of in (
        (mean("x"), {"x": rows}, names),
        (RATE, counts, list(map(str, range(len(groups))))),
    ):
        once = estimate(metric, table, seed=0, groups=of)
        again = estimate(
            metric, {name: values * copies for name, values in table.items()}, seed=0, groups=of * copies
        )
        assert again.low <= once.low + 1e-9
        assert again.high >= once.high - 1e-9


@pytest.mark.parametrize("many", [2, 8])
def test_a_difference_of_shares_in_groups_is_students(many):
    """By hand: a mean over groups of one size has the interval that scipy calls Student's, but for two groups more."""
    rng = np.random.default_rng(many)
    one, two = (rng.integers(0, 2, (many, 5)).astype(float) for _ in range(2))
    groups = [str(place) for place in range(many) for _ in range(5)]
    found = difference(mean("x"), {"x": one.ravel()}, {"x": two.ravel()}, seed=0, groups=groups)
    means = (two - one).mean(1)
    theirs = stats.ttest_1samp(means, 0)
    more = 2 * ((means - means.mean())[means != 0] ** 2).mean() / many**2
    half = stats.t.ppf(0.975, many - 1) * np.sqrt((means.std(ddof=1) ** 2 / many) + more)
    assert half > np.ptp(theirs.confidence_interval(0.95)) / 2
    ends = (max(means.mean() - half, -1), min(means.mean() + half, 1))
    assert (found.low, found.high) == pytest.approx(ends)
    counts = [{"wrong": values.sum(1), "said": np.full(many, 5.0)} for values in (one, two)]
    pooled = difference(RATE, *({name: np.repeat(row, 2) / 2 for name, row in table.items()} for table in counts),
                        seed=0, groups=[str(place) for place in range(many) for _ in range(2)])  # fmt: skip
    assert (pooled.low, pooled.high) == pytest.approx((found.low, found.high))


def test_where_all_groups_gain_alike_the_interval_is_not_of_no_width():
    groups = [str(place // 2) for place in range(60)]
    half = difference(mean("x"), {"x": [0.0] * 60}, {"x": [0.0, 1.0] * 30}, seed=0, groups=groups)
    assert (half.low, half.high) == pytest.approx((0.5 - wilson(0, 30)[1], 0.5 + wilson(0, 30)[1]))


def test_methods_say_where_they_are_too_narrow():
    assert caution(estimate(ERRORS, rate(99, 0), seed=0).method) == "too narrow: fewer than 100 examples"
    assert caution(estimate(ERRORS, rate(100, 0), seed=0).method) == ""
    assert caution(estimate(RATE, rate(19, 0), seed=0).method) == "rough, n too small: fewer than 20 groups"
    assert caution(estimate(RATE, rate(20, 0), seed=0).method) == ""
    rng = np.random.default_rng(0)
    heavy = estimate(mean("x", unit="points"), {"x": rng.lognormal(0, 1.5, 100)}, seed=0)
    assert caution(heavy.method) == "too narrow: heavy tails"
    usual = estimate(mean("x", unit="points"), {"x": rng.normal(size=100)}, seed=0)
    assert usual.method == BOOTSTRAP


METRICS = {"share": mean("x"), "mean": mean("x", unit="points"), "rate": RATE, "errors": ERRORS}


def table_of(kind: str, n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = {"share": (rng.random(n) < 0.8).astype(float), "mean": rng.normal(size=n)}
    return {"x": values[kind]} if kind in values else rate(n, seed)


@pytest.mark.parametrize("kind", METRICS)
def test_groups_of_one_change_nothing(kind):
    one, two = table_of(kind, 60, 0), table_of(kind, 60, 1)
    names = list(map(str, range(60)))
    assert estimate(METRICS[kind], one, seed=0, groups=names) == estimate(METRICS[kind], one, seed=0)
    assert difference(METRICS[kind], one, two, seed=0, groups=names) == difference(
        METRICS[kind], one, two, seed=0
    )


@pytest.mark.parametrize("kind", METRICS)
def test_copies_of_an_example_say_nothing_new(kind):
    one, two = table_of(kind, 60, 0), table_of(kind, 60, 1)
    groups = [str(place // 6) for place in range(360)]
    single = estimate(METRICS[kind], one, seed=0)
    copied = {name: np.repeat(values, 6) for name, values in one.items()}
    found = estimate(METRICS[kind], copied, seed=0, groups=groups)
    assert found.high - found.low == pytest.approx(single.high - single.low, rel=0.1)
    alone = estimate(METRICS[kind], copied, seed=0)
    assert alone.high - alone.low < 0.6 * (found.high - found.low)
    again = {name: np.repeat(values, 6) for name, values in two.items()}
    pair = difference(METRICS[kind], one, two, seed=0)
    change = difference(METRICS[kind], copied, again, seed=0, groups=groups)
    assert change.high - change.low == pytest.approx(pair.high - pair.low, rel=0.1)
    assert change.p == pytest.approx(pair.p, abs=0.02)


def test_p_of_exchanged_groups_by_hand():
    before, after = np.zeros((1, 6)), np.ones((1, 6))
    p, method = permutation_p(mean("x").statistic, before, after, seed=0, groups=np.array([0, 0, 1, 1, 2, 2]))
    assert (p, method) == (2 / 8, "exact permutation test, 8 exchanges")


def test_what_is_about_one_thing_is_found_by_content(tmp_path):
    picture, other = np.zeros((4, 4, 3), dtype=np.uint8), np.ones((4, 4, 3), dtype=np.uint8)
    pictures = [
        Example("1", {"text": "Is there a cat?", "image": picture}, "yes"),
        Example("2", {"text": "Is there a dog?", "image": picture.copy()}, "no"),
        Example("3", {"text": "Is there a cat?", "image": other}, "no"),
    ]
    assert groups_of(pictures).column == ["0", "0", "1"]
    assert groups_of(pictures).record == {"groups": "3 examples about 2 pictures"}
    files = [Example(str(n), {"text": "a", "image": tmp_path / f"{n // 2}.png"}, "") for n in range(4)]
    assert groups_of(files).column == ["0", "0", "1", "1"]
    sounds = [Example(str(n), {"audio": (np.full(3, n), 16000)}, "Go  left") for n in range(2)]
    assert groups_of(sounds).record == {"groups": "2 examples about 1 sentences"}
    named = [Example(str(n), {"text": str(n)}, "", group="one") for n in range(2)]
    assert group_of(named[0]) == group_of(named[1])
    assert groups_of([Example(str(n), {}, "") for n in range(3)]).column is None


class Doubled(Next):
    """Every question asked twice."""

    def examples(self):
        return [
            Example(f"{item.id}/{copy}", item.inputs, item.answer, item.metadata)
            for item in super().examples()
            for copy in range(2)
        ]


def test_groups_are_told_and_stand_in_the_table():
    subject = small_subject()
    found = evaluate(subject, Doubled())
    assert "80 examples about 40 texts." in found.summary
    assert found.frame["group"].nunique() == 40
    assert found.estimates["accuracy"].method == "Wilson, groups"
    single = evaluate(subject, Next()).estimates["accuracy"]
    assert found.estimates["accuracy"].high - found.estimates["accuracy"].low > 0.95 * (
        single.high - single.low
    )
    both = compare(subject, Doubled(), {"silent": SILENT})
    assert both.summary.startswith("next, 80 examples about 40 texts: accuracy")


def test_all_about_one_thing_has_no_interval():
    found = estimate(mean("x"), {"x": [1.0, 0.0, 1.0]}, seed=0, groups=["a"] * 3)
    assert np.isnan(found.low)
    assert found.method == "none: all examples are of one group"


def test_a_share_of_those_that_are_counted_is_one_of_wilson():
    found = interval(
        [np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0])],
        RATE.statistic,
        unit="share",
        pooled=True,
        seed=0,
    )
    assert (found.low, found.high, found.method) == (*wilson(1, 2), "Wilson")


def test_a_share_in_few_groups_is_doubted():
    one, two, groups = [0.0, 1.0] * 50, [1.0] * 100, [str(place // 25) for place in range(100)]
    few = difference(mean("x"), {"x": one}, {"x": two}, seed=0, groups=groups)
    assert caution(few.method) == "rough, n too small: fewer than 20 groups differ"
    assert caution(difference(mean("x"), {"x": one}, {"x": two}, seed=0).method) == ""


def test_one_large_group_is_worth_little_more_than_one():
    """60 groups, of which one holds half of the examples: an interval that took them for alike covered 0.7."""
    groups = np.repeat(np.arange(60), [118, *[2] * 59])
    covered, rng = 0, np.random.default_rng(0)
    for _ in range(100):
        rates = rng.beta(0.5 * 7 / 3, 0.5 * 7 / 3, 60)
        x = (rng.random(len(groups)) < rates[groups]).astype(float)
        found = estimate(mean("x", unit="share"), {"x": x}, seed=0, groups=groups.astype(str).tolist())
        covered += found.low <= 0.5 <= found.high
    assert covered >= 90
    assert caution(found.method) == "rough, n too small: groups of unlike size, worth fewer than 20"
    change = difference(
        mean("x", unit="share"), {"x": x}, {"x": 1 - x}, seed=0, groups=groups.astype(str).tolist()
    )
    assert caution(change.method) == "rough, n too small: groups of unlike size, worth fewer than 20"


@pytest.mark.parametrize("flips", [0, 1, 9, 10, 11])
def test_a_share_of_which_few_replies_change_is_doubted(flips):
    found = difference(mean("x"), {"x": [0.0] * 40}, {"x": [1.0] * flips + [0.0] * (40 - flips)}, seed=0)
    assert caution(found.method) == ("rough, n too small: fewer than 10 pairs differ" if flips < 10 else "")
