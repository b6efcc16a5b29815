"""Two runs over the same examples: what differs, how sure that is, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.evaluation.statistics.estimate import (
    from_fields,
    group_numbers,
    no_interval,
    number_text,
    span,
    to_fields,
)
from headwise.evaluation.statistics.intervals import CELLS
from headwise.evaluation.statistics.paired_intervals import SAME, difference_interval

if TYPE_CHECKING:
    from headwise.evaluation.task import Metric

N_PERMUTATIONS = 9999
"""Random exchanges of the permutation test."""
ALPHA = 0.05
"""Adjusted p from which a difference counts as possible chance."""


@dataclass(frozen=True)
class Difference:
    """One metric of an arm less the same metric without a fix, over the same examples."""

    metric: str
    value: float
    low: float
    high: float
    """95 % interval."""
    p: float
    """Two-sided, of the permutation test: how often exchanging the two responses of examples by lot makes a
    difference as large."""
    p_holm: float
    """`p` adjusted by Holm's rule for everything that the comparison tries, see `statistics.multiple`."""
    n: int
    """Pairs: examples that have a value in both runs."""
    unit: str
    higher_is_better: bool | None
    """None where neither is better."""
    method: str
    """How interval and p were found."""
    smallest_effect: float = 0.0
    """The smallest difference worth having, in its unit: less is not called clear."""

    def __str__(self) -> str:
        return f"{number_text(self.value, '+.3f')} {span(self, '+.3f')}"

    @property
    def gain(self) -> float:
        """The difference, positive where it is for the better; NaN where neither is better."""
        if self.higher_is_better is None:
            return float("nan")
        return self.value if self.higher_is_better else -self.value

    @property
    def significant(self) -> bool:
        """True when the adjusted p is below 0.05."""
        return self.p_holm < ALPHA

    @property
    def clear(self) -> bool:
        """True when it is significant and not smaller than the smallest effect worth having."""
        return self.significant and abs(self.value) >= self.smallest_effect

    @property
    def disagreement(self) -> str:
        """Why the interval leaves out 0 and the adjusted p is not below 0.05, or the other way round; empty where they
        agree, or where there is none.

        Example:
            >>> from dataclasses import replace
            >>> from headwise.evaluation.task import mean
            >>> one, two = {"x": [0] * 200}, {"x": [1] * 11 + [0] * 189}
            >>> found = difference(mean("x"), one, two, seed=0)
            >>> found.disagreement, replace(found, p_holm=0.2).disagreement
            ('', 'the interval is of one difference, and p is adjusted for all that are compared')
        """
        apart = self.low > 0 or self.high < 0
        if isnan(self.p_holm) or apart == self.significant:
            return ""
        if apart and self.p < ALPHA:
            return "the interval is of one difference, and p is adjusted for all that are compared"
        return "they are found in two ways"

    def to_dict(self) -> dict[str, Any]:
        """The fields; a number that is not defined is None."""
        return to_fields(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Difference:
        """What `to_dict` gave."""
        return from_fields(cls, values)


def difference(
    metric: Metric,
    before: Mapping[str, Sequence[float]],
    after: Mapping[str, Sequence[float]],
    *,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Difference:
    """A metric over two tables whose rows are the same examples: after less before.

    Examples without a value (NaN) on either side are left out of both. For the interval see `difference_interval`,
    for p `permutation_p`.

    Args:
        metric: the number, and the columns it is computed from.
        before: column -> values, one per example.
        after: the same of the other run, in the same order.
        seed: of the resamples and exchanges.
        groups: the group of every example, drawn and exchanged whole; None where each is one of its own.

    Returns:
        The difference; its `p_holm` is `p` as yet.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> found = difference(mean("x"), {"x": [0, 0, 0, 1]}, {"x": [1, 1, 1, 1]}, seed=0)
        >>> found.value, found.p
        (0.75, 0.25)
    """
    one, two = (
        np.stack([np.asarray(table[column], dtype=float) for column in metric.columns])
        for table in (before, after)
    )
    known = np.asarray(~(np.isnan(one).any(0) | np.isnan(two).any(0)))
    one, two = one[:, known], two[:, known]
    n, nan = one.shape[1], float("nan")
    ends = [float(metric.statistic(*side, axis=-1)) if n else nan for side in (one, two)]
    value = ends[1] - ends[0]
    facts = (metric.unit, metric.higher_is_better)
    numbers = group_numbers(groups, known)
    if why := no_interval(n, numbers, inf if inf in map(abs, ends) else value):
        return Difference(metric.name, value, nan, nan, nan, nan, n, *facts, why, metric.smallest_effect)
    p, test = permutation_p(metric.statistic, one, two, seed=seed, groups=numbers)
    low, high, method = difference_interval(metric, one, two, seed=seed, groups=numbers)
    return Difference(
        metric.name, value, low, high, p, p, n, *facts, f"{method}; {test}", metric.smallest_effect
    )


def permutation_p(
    statistic: Callable[..., np.ndarray],
    before: np.ndarray,
    after: np.ndarray,
    *,
    seed: int,
    shuffles: int = N_PERMUTATIONS,
    groups: np.ndarray | None = None,
) -> tuple[float, str]:
    """Two-sided p of the paired permutation test, and how it was found.

    If the fix did nothing, the two rows of an example could as well be exchanged. Every example that differs is
    exchanged or not; p is the share of exchanges that leave a difference at least as far from 0 as the one seen.
    Where there are few such examples all exchanges are tried, and p is exact; else `shuffles` random ones, and the
    one seen is counted with them (Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero").

    Args:
        statistic: the metric: columns, reduced over `axis`.
        before: (column, example), without NaN.
        after: the same of the other run.
        seed: of the exchanges.
        shuffles: how many are drawn.
        groups: (example,) the number of the group of each, from 0: the responses of a group are exchanged together.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> one, two = np.zeros((1, 5)), np.ones((1, 5))
        >>> permutation_p(mean("x").statistic, one, two, seed=0)
        (0.0625, 'exact permutation test, 32 exchanges')
    """
    from scipy.stats import permutation_test

    seen = float(statistic(*after, axis=-1) - statistic(*before, axis=-1))
    least = abs(seen) - 1e-9 * max(abs(seen), 1e-3)  # sums in another order differ in their last digits
    rows = np.arange(before.shape[1])  # exchanged instead of values: all columns of an example go together
    numbers = rows if groups is None else groups
    changed = np.flatnonzero((before != after).any(0))
    units, place = np.unique(numbers[changed], return_inverse=True)
    pairs = len(units)
    if pairs == 0:
        return 1.0, SAME
    whole = 2**pairs <= shuffles
    if pairs == 1:  # both exchanges are as far from 0; scipy wants two pairs
        return 1.0, "exact permutation test, 2 exchanges"
    table = np.concatenate([before, after], axis=1)

    def side(chosen: np.ndarray) -> np.ndarray:
        every = np.broadcast_to(rows, (*chosen.shape[:-1], len(rows))).copy()
        every[..., changed] += len(rows) * chosen[..., place]
        return statistic(*table[:, every], axis=-1)

    def extreme(one: np.ndarray, two: np.ndarray, axis: int) -> np.ndarray:
        change = side(two) - side(one)
        return (~(np.abs(change) < least)).astype(float)  # undefined counts as extreme

    found = permutation_test(
        (np.zeros(pairs, dtype=int), np.ones(pairs, dtype=int)),
        extreme,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=shuffles,
        batch=max(1, CELLS // (2 * before.size)),
        rng=np.random.default_rng(seed),
    )
    kind = f"exact permutation test, {2**pairs}" if whole else f"permutation test, {shuffles} random"
    return float(found.pvalue), f"{kind} exchanges"
