"""What a finding says of its numbers: of how many pairs they are, and why interval and p disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headwise.evaluation.results.arm import Arm
from headwise.evaluation.results.finding import finding
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.multiple import adjusted
from headwise.evaluation.statistics.paired import difference
from headwise.evaluation.task import mean

N = 60


def found_of(columns, metric=None):
    """The sentence about arms, each given by its column of values; the first is the model without a fix."""
    metric = metric or mean("x")
    tables = {label: {"x": values} for label, values in columns.items()}
    first, *others = tables
    changes = adjusted([[difference(metric, tables[first], tables[label], seed=0)] for label in others])
    arms = [Arm(first, {"x": estimate(metric, tables[first], seed=0)})]
    arms += [
        Arm(label, {"x": estimate(metric, tables[label], seed=0)}, {"x": row[0]}, changed=N)
        for label, row in zip(others, changes, strict=True)
    ]
    return finding("task", arms, {}, n=N), [arm.main for arm in arms[1:]]


@pytest.mark.parametrize("gained", [3, 40])
def test_a_difference_says_of_how_many_pairs_it_is(gained):
    nan = float("nan")
    before = [0.0] * (N - 8) + [nan] * 8
    after = [nan] * 4 + [1.0] * gained + [0.0] * (N - gained - 4)
    said, (change,) = found_of({"none": before, "fix": after})
    assert change.n == N - 12
    assert "of 48 pairs" in said
    whole, _ = found_of({"none": [0.0] * N, "fix": [1.0] * gained + [0.0] * (N - gained)})
    assert "pairs" not in whole.replace("pairs differ", "")


@pytest.mark.parametrize("arms", [1, 5])
@pytest.mark.parametrize("up", [0, 5, 6, 20])
@pytest.mark.parametrize("down", [0, 8])
def test_interval_and_p_never_contradict_each_other_without_a_reason(up, down, arms):
    before = np.array([0.0] * up + [1.0] * (N - up))
    after = np.array([1.0] * up + [0.0] * down + [1.0] * (N - up - down))
    columns = {"none": before} | {f"fix {number}": after for number in range(arms)}
    said, changes = found_of({name: column.tolist() for name, column in columns.items()})
    for change in changes:
        apart = change.low > 0 or change.high < 0
        assert ("disagree" in said) == (apart != change.clear)
        alone = replace(change, p_holm=change.p)
        assert ("p is adjusted for all" in said) == (apart and alone.clear and not change.clear)
