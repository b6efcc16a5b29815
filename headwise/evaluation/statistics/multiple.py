"""Multiple tests of one comparison: which are adjusted together, and what they could find at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from numbers import Real

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.statistics.paired import ALPHA, N_PERMUTATIONS, Difference

BESIDE = ("recall", "tokens")
"""Metrics that a gain may have cost: the finding tells where they clearly change, and so tests them."""


def of_finding(metrics: Sequence[str]) -> list[str]:
    """The metrics that a finding speaks of: the first, and recall and the length of replies where there are any.

    Example:
        >>> of_finding(["chair_i", "chair_s", "recall", "tokens"])
        ['chair_i', 'recall', 'tokens']
    """
    return [name for place, name in enumerate(metrics) if place == 0 or name in BESIDE]


def adjusted(arms: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """The same with `p_holm`: the tests that the finding speaks of are adjusted together, the others among all tests.

    So whatever a finding calls clear is false with a chance of at most 5 %, over all arms and all that is named beside
    the first metric. A metric that is only in the table is adjusted for everything in the table.

    Args:
        arms: of every arm the differences, of the same metrics in the same order.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> from headwise.evaluation.statistics.paired import difference
        >>> one, two = {"x": [0] * 6}, {"x": [1] * 6}
        >>> found = difference(mean("x"), one, two, seed=0)
        >>> [row[0].p_holm for row in adjusted([[found], [found]])]
        [0.0625, 0.0625]
    """
    named = of_finding([item.metric for item in arms[0]])
    told = holm([item.p for row in arms for item in row if item.metric in named])
    every = holm([item.p for row in arms for item in row])
    narrow, wide = iter(told), iter(every)
    found = []
    for row in arms:
        new = []
        for item in row:
            p = next(wide)
            new.append(replace(item, p_holm=next(narrow) if item.metric in named else p))
        found.append(new)
    return found


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's rule (1979); below 0.05 for any one is at most a 5 % chance of a false finding.

    The smallest of m is multiplied by m, the next by m - 1, and so on, never below the one before, at most 1. Tests
    that could not be made (NaN) are not counted.

    Example:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(len(values), np.nan)
    order = np.argsort(values)[: int((~np.isnan(values)).sum())]  # NaN is sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(factors * values[order]).clip(max=1.0)
    return adjusted.tolist()


def smallest_p(units: int) -> float:
    """The smallest p that the permutation test can give where every one of `units` changes in one direction.

    Example:
        >>> smallest_p(1), smallest_p(8), smallest_p(1000)
        (1.0, 0.0078125, 0.0001)
    """
    return 2.0 ** (1 - units) if 2**units <= N_PERMUTATIONS else 1 / (N_PERMUTATIONS + 1)


def out_of_reach(units: int, arms: int, metrics: Sequence[str], *, grouped: bool = False) -> str:
    """Why no difference could be clear, whatever the arms do; empty where one could be.

    Args:
        units: examples, or groups of them, that can be exchanged.
        arms: how many are compared with no fix.
        metrics: of the task, in their order.
        grouped: whether they are groups.

    Example:
        >>> out_of_reach(8, 7, ["accuracy"])
        "no difference can be found with n = 8 and 7 arms (p is 0.0078 or more, by Holm's rule 7 times as much)"
        >>> out_of_reach(50, 7, ["accuracy"])
        ''
    """
    tests, least = arms * len(of_finding(metrics)), smallest_p(units)
    if tests * least < ALPHA:
        return ""
    many = (" groups" if grouped else "") + (f" and {arms} arms" if arms > 1 else "")
    times = f", by Holm's rule {tests} times as much" if tests > 1 else ""
    return f"no difference can be found with n = {units}{many} (p is {least:.2g} or more{times})"


def check_smallest_effect(value: float | None) -> None:
    """Refuse a smallest effect that is no distance.

    Raises:
        InputError: it is negative, infinite or NaN.

    Example:
        >>> check_smallest_effect(0.01)
    """
    number = value is None or (isinstance(value, Real) and not isinstance(value, bool))
    if not number or (value is not None and not 0 <= value < inf):
        raise InputError(
            "The smallest effect worth having is a distance, 0 or more.",
            evidence=f"{value!r}",
            remedy="Give it in the unit of the task's first metric.",
        )
