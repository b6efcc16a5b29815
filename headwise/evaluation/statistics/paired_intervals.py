"""95 % intervals of differences of two runs over the same examples, by kind of number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwise.evaluation.statistics.estimate import strata_of
from headwise.evaluation.statistics.intervals import (
    FEW_GROUPS,
    LEVEL,
    ROUGH,
    Interval,
    count_units,
    few_groups,
    percentile_interval,
    said,
    wilson,
    worth_of_groups,
)

if TYPE_CHECKING:
    from headwise.evaluation.task import Metric

FEW_PAIRS = 50
"""Examples, or groups, that differ, below which intervals of differences are rough (benchmarks/coverage.py)."""
FEW_FLIPS = 10
"""The same of a share of single examples."""
BONETT_PRICE = "Bonett-Price"
STUDENT = "Student's t over groups"
SAME = "no example differs"
"""The method where nothing moved."""


def difference_interval(
    metric: Metric, before: np.ndarray, after: np.ndarray, *, seed: int, groups: np.ndarray | None = None
) -> Interval:
    """The 95 % interval of a difference of two runs over the same examples.

    Of a share of right and wrong examples it is Bonett and Price's (2012, "Adjusted Wald Confidence Interval for a
    Difference of Binomial Proportions Based on Paired Data"): one pair more that moves up and one that moves down,
    since the next may move where none did. Of a share in groups it is Student's with two such groups. Everything else
    has the percentile bootstrap over examples, or groups, whose two responses stay together; pooled ratios are pooled
    anew in every resample. Where few pairs differ, the method says that it is rough.

    Args:
        metric: the number.
        before: (column, example), without NaN.
        after: the same of the other run.
        seed: of the resamples.
        groups: (example,) the number of the group of each, from 0, which are drawn whole.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> one, two = np.zeros((1, 200)), np.array([[1.0] * 10 + [0.0] * 190])
        >>> found = difference_interval(mean("x"), one, two, seed=0)
        >>> round(found.low, 4), round(found.high, 4), found.method
        (0.0166, 0.0824, 'Bonett-Price')
    """
    count, moved = len(before), after[0] - before[0]
    units = count_units(len(moved), groups)
    share = metric.unit == "share"
    binary = share and count == 1 and np.isin([before, after], (0, 1)).all()
    differ = (before != after).any(0)
    pairs = int(differ.sum()) if groups is None else len(np.unique(groups[differ]))
    student = groups is not None and (binary or (share and metric.pooled))
    few = FEW_GROUPS if student else FEW_FLIPS if binary else FEW_PAIRS
    what = "pairs" if groups is None else "groups"
    doubt = f"{ROUGH}fewer than {few} {what} differ" if pairs < few else ""
    if student and groups is not None and not doubt:
        doubt = few_groups(units, worth_of_groups(np.bincount(groups)))
    if binary and groups is None:
        return Interval(*bonett_price((moved > 0).sum(), (moved < 0).sum(), units), said(BONETT_PRICE, doubt))
    if not pairs and not binary:
        return Interval(0.0, 0.0, said(SAME, doubt))
    if groups is not None and student:
        return Interval(*_student(before, after, groups), said(STUDENT, doubt))

    def change(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return metric.statistic(*columns[count:], axis=axis) - metric.statistic(*columns[:count], axis=axis)

    strata = strata_of(metric, list(before))
    return percentile_interval(
        [*before, *after], change, doubt=doubt, seed=seed, groups=groups, strata=strata
    )


def bonett_price(up: float, down: float, n: int) -> tuple[float, float]:
    """Bonett and Price's interval of the difference of two shares of `n` pairs, of which `up` became true and `down`
    untrue.

    Example:
        >>> tuple(round(end, 3) for end in bonett_price(0, 0, 300))
        (-0.009, 0.009)
    """
    from scipy.special import ndtri

    above, below = (up + 1) / (n + 2), (down + 1) / (n + 2)
    middle = above - below
    half = ndtri((1 + LEVEL) / 2) * np.sqrt((above + below - middle**2) / (n + 2))
    return float(max(middle - half, -1.0)), float(min(middle + half, 1.0))


def _student(before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The interval of a difference of two shares by what every group adds to it, and Student's t.

    With two groups more, one of which moves up and one down as far as those do that differ. Where all groups add the
    same, as many independent ones could hide what Wilson's bound of 0 says.
    """
    from scipy.stats import t

    total, added, part = 0.0, np.zeros(groups.max() + 1), np.zeros(groups.max() + 1)
    for sign, columns in ((-1, before), (1, after)):
        above, below = columns if len(columns) == 2 else (columns[0], np.ones(len(groups)))
        share = above.sum() / below.sum()
        total += sign * share
        added += sign * np.bincount(groups, above - share * below) / below.sum()
        part += np.bincount(groups, below) / below.sum()
    part /= 2
    alike = worth_of_groups(part[part > 0])
    spread = (added**2 / np.maximum(1 - part, 1e-9)).sum()
    moved = np.any([np.bincount(groups, two - one) for one, two in zip(before, after, strict=True)], axis=0)
    spread += 2 * (added[moved] ** 2).mean() if moved.any() else 0.0
    half = t.ppf((1 + LEVEL) / 2, max(alike - 1, 1)) * np.sqrt(spread)
    half = wilson(0, alike)[1] if np.allclose(added, 0) else half
    return float(max(total - half, -1.0)), float(min(total + half, 1.0))
