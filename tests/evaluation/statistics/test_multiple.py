"""Tests that are adjusted together: what a finding calls clear is false in at most one of twenty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headwise.evaluation.statistics.multiple import adjusted, of_finding, out_of_reach, smallest_p
from headwise.evaluation.statistics.paired import difference, permutation_p
from headwise.evaluation.task import mean

METRICS = ("accuracy", "precision", "recall", "tokens")


def rows(*p: tuple[float, ...]):
    change = difference(mean("x"), {"x": [0, 1, 0]}, {"x": [1, 1, 1]}, seed=0)
    return [
        [replace(change, metric=name, p=one) for name, one in zip(METRICS, arm, strict=True)] for arm in p
    ]


def test_holm_by_hand():
    # told of: accuracy, recall, tokens of two arms, six tests: 0.001 x 6, 0.01 x 5, 0.02 x 4, 0.2 x 3, ...
    found = adjusted(rows((0.01, 0.03, 0.2, 0.5), (0.02, 0.004, 0.001, 0.9)))
    told = [[item.p_holm for item in row if item.metric != "precision"] for row in found]
    assert np.allclose(told, [[0.05, 0.6, 1.0], [0.08, 0.006, 1.0]])
    # precision among all eight: 0.001 x 8, 0.004 x 7, 0.01 x 6, 0.02 x 5, 0.03 x 4
    assert np.allclose([row[1].p_holm for row in found], [0.12, 0.028])


def test_what_could_not_be_tested_is_not_counted():
    found = adjusted(rows((0.01, float("nan"), float("nan"), 0.5)))
    assert [round(item.p_holm, 6) for item in found[0]][::3] == [0.02, 0.5]
    assert np.isnan(found[0][1].p_holm)


@pytest.mark.slow
def test_false_findings_of_fixes_that_do_nothing_are_at_most_one_in_twenty():
    """Seven arms, three metrics that are told of, p drawn evenly: 1,000 comparisons."""
    draw = np.random.default_rng(0)
    told = of_finding(METRICS)
    false = sum(
        any(
            item.significant
            for row in adjusted(rows(*draw.random((7, 4))))
            for item in row
            if item.metric in told
        )
        for _ in range(1000)
    )
    assert 0.03 < false / 1000 < 0.07  # 0.05 within three standard errors


@pytest.mark.parametrize("units", [1, 2, 5, 8, 13, 14, 40])
def test_the_smallest_p_is_what_the_test_gives_where_all_change(units):
    p, _ = permutation_p(mean("x").statistic, np.zeros((1, units)), np.ones((1, units)), seed=0)
    assert p >= smallest_p(units)
    assert p == pytest.approx(smallest_p(units), rel=0.01) or units == 14  # drawn by lot: a few exchange none


@pytest.mark.parametrize(
    ("units", "arms", "reached"), [(5, 1, False), (6, 1, True), (8, 6, True), (8, 7, False)]
)
def test_out_of_reach_is_said_where_no_outcome_is_below_the_line(units, arms, reached):
    change = difference(mean("x"), {"x": [0] * units}, {"x": [1] * units}, seed=0)
    best = adjusted([[change]] * arms)[0][0]
    assert best.significant is reached
    assert (out_of_reach(units, arms, ["x"]) == "") is reached
