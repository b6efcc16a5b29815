"""A number with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from headwise.evaluation.statistics.intervals import ROUGH, TOO_NARROW, count_units, interval
from headwise.results.plain import plain, restored

if TYPE_CHECKING:
    from headwise.evaluation.task import Metric

NO_INTERVAL = "none"
"""How methods begin that give no interval."""
TOO_FEW = "none: too few examples"
ONE_GROUP = "none: all examples are of one group"
NOTHING = "none: nothing was counted (0 of 0)"
INFINITE = "none: the number is infinite"
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Estimate:
    """One metric over the examples that were asked."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    """Examples."""
    unit: str
    higher_is_better: bool | None
    """None where neither is better."""
    method: str
    """How the 95 % interval was found."""

    def __str__(self) -> str:
        return f"{number_text(self.value, '.3f')} {span(self, '.3f')}"

    def to_dict(self) -> dict[str, Any]:
        """The fields; a number that is not defined is None."""
        return to_fields(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Estimate:
        """What `to_dict` gave."""
        return from_fields(cls, values)


class Bounded(Protocol):
    """A number over `n` examples with the ends of its interval, NaN where there is none."""

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...

    @property
    def n(self) -> int:
        """Examples."""
        ...


def span(item: Bounded, form: str, *, words: bool = False) -> str:
    """An interval in brackets, or in the words of a sentence; or that there is none.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> span(estimate(mean("correct"), {"correct": [1.0] * 50}, seed=0), ".2f")
        '[0.93, 1.00]'
        >>> span(estimate(mean("correct"), {"correct": [1.0]}, seed=0), ".2f")
        'no interval (n = 1)'
    """
    if isnan(item.low) or isnan(item.high):
        return f"no interval, n = {item.n}" if words else f"no interval (n = {item.n})"
    low, high = f"{item.low:{form}}", f"{item.high:{form}}"
    return f"95 % interval {low} to {high}" if words else f"[{low}, {high}]"


def number_text(value: float, form: str) -> str:
    """A number; or that it is not defined, where nothing was counted.

    Example:
        >>> number_text(0.25, ".3f"), number_text(float("nan"), "+.3f")
        ('0.250', 'undefined')
    """
    return "undefined" if isnan(value) else f"{value:{form}}"


def estimate(
    metric: Metric, table: Mapping[str, Sequence[float]], *, seed: int, groups: Sequence[str] | None = None
) -> Estimate:
    """The metric with its 95 % interval, by the method that suits its kind, see `interval`.

    Examples without a value (NaN) are left out, of `n` as well.

    Args:
        metric: the number.
        table: column -> values, one per example.
        seed: of the resamples.
        groups: the group of every example; None where each is one of its own.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> found = estimate(mean("correct"), {"correct": [1.0] * 50}, seed=0)
        >>> found.value, round(found.low, 3), found.method
        (1.0, 0.929, 'Wilson')
    """
    columns = np.stack([np.asarray(table[column], dtype=float) for column in metric.columns])
    known = np.asarray(~np.isnan(columns).any(0))
    arrays = list(columns[:, known])
    n = len(arrays[0])
    value = float(metric.statistic(*arrays, axis=-1)) if n else float("nan")
    facts = (metric.unit, metric.higher_is_better)
    numbers = group_numbers(groups, known)
    if why := no_interval(n, numbers, value):
        return Estimate(metric.name, value, float("nan"), float("nan"), n, *facts, why)
    found = interval(
        arrays,
        metric.statistic,
        unit=metric.unit,
        pooled=metric.pooled,
        seed=seed,
        groups=numbers,
        strata=strata_of(metric, arrays),
    )
    return Estimate(metric.name, value, found.low, found.high, n, *facts, found.method)


def no_interval(n: int, groups: np.ndarray | None, value: float) -> str:
    """Why a number over `n` examples, in groups numbered from 0, has no interval; empty where it has one.

    Example:
        >>> no_interval(1, None, 0.5), no_interval(8, None, 0.5)
        ('none: too few examples', '')
    """
    units = count_units(n, groups)
    if units >= 2 and np.isfinite(value):
        return ""
    return TOO_FEW if n < 2 else ONE_GROUP if units < 2 else NOTHING if isnan(value) else INFINITE


def strata_of(metric: Metric, arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """(example,) the category within which examples are drawn again; None where a metric has no strata."""
    return None if metric.strata is None else arrays[metric.columns.index(metric.strata)]


def group_numbers(groups: Sequence[str] | None, known: np.ndarray) -> np.ndarray | None:
    """The number of the group of every example that has a value; None where each is one of its own.

    Example:
        >>> group_numbers(["a", "b", "a", "c"], np.array([True, True, True, False]))
        array([0, 1, 0])
        >>> group_numbers(["a", "b", "a"], np.array([True, True, False])) is None
        True
    """
    if groups is None:
        return None
    names, numbers = np.unique(np.asarray(groups, dtype=str)[known], return_inverse=True)
    return None if len(names) == len(numbers) else numbers


def caution(method: str) -> str:
    """Why an interval is to be doubted, in its method; empty where nothing is known against it.

    Example:
        >>> caution("percentile bootstrap; too narrow: heavy tails; exact permutation test")
        'too narrow: heavy tails'
    """
    return next((part for part in method.split("; ") if part.startswith((TOO_NARROW, ROUGH))), "")


def to_fields(item: Any) -> dict[str, Any]:
    """The fields of a dataclass of numbers and names, see `plain`; a number that is not defined is None."""
    return {
        name: None if isinstance(value, float) and isnan(value) else plain(value)
        for name, value in asdict(item).items()
    }


def from_fields(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """What `to_fields` was given; None in the place of a number is one that is not defined."""
    if values.keys() != {item.name for item in fields(kind)}:  # type: ignore[arg-type]
        raise ValueError(f"{kind.__name__} has the fields {', '.join(values)}")
    numbers = {item.name for item in fields(kind) if item.type in ("float", float)}  # type: ignore[arg-type]
    return kind(
        **{
            name: float("nan") if value is None and name in numbers else restored(value)
            for name, value in values.items()
        }
    )
