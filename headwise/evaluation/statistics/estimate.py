"""A number with its interval: bootstrap over examples (scipy)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from headwise.results.plain import plain, restored

if TYPE_CHECKING:
    from headwise.evaluation.task import Metric

RESAMPLES = 2000
LEVEL = 0.95
BOOTSTRAP = f"percentile bootstrap, {RESAMPLES} resamples"
TOO_FEW = "none: too few examples"
NOTHING = "none: nothing was counted (0 of 0)"
CELLS = 4_000_000
"""Numbers that are held at once while examples are drawn again."""
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


def estimate(metric: Metric, table: Mapping[str, Sequence[float]], *, seed: int) -> Estimate:
    """The metric with its 95 % interval: the percentile bootstrap over examples, 2,000 resamples.

    Where every example scores 0, or every one scores 1, resampling cannot see that the next might not; a share
    then gets Wilson's interval, which can. Examples without a value (NaN) are left out, of `n` as well.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> found = estimate(mean("correct"), {"correct": [1.0] * 50}, seed=0)
        >>> found.value, round(found.low, 3), found.method
        (1.0, 0.929, 'Wilson')
    """
    columns = np.stack([np.asarray(table[column], dtype=float) for column in metric.columns])
    arrays = list(columns[:, ~np.isnan(columns).any(0)])
    n = len(arrays[0])
    value = float(metric.statistic(*arrays, axis=-1)) if n else float("nan")
    facts = (metric.unit, metric.higher_is_better)
    if n < 2 or not np.isfinite(value):
        return Estimate(
            metric.name, value, float("nan"), float("nan"), n, *facts, TOO_FEW if n < 2 else NOTHING
        )
    if len(arrays) == 1 and metric.unit == "share" and (np.all(arrays[0] == 0) or np.all(arrays[0] == 1)):
        low, high = wilson(int(arrays[0].sum()), n)
        return Estimate(metric.name, value, low, high, n, *facts, "Wilson")
    low, high = percentile_interval(arrays, metric.statistic, seed=seed)
    return Estimate(metric.name, value, low, high, n, *facts, BOOTSTRAP)


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    from scipy.stats import binomtest

    span = binomtest(count, n).proportion_ci(LEVEL, method="wilson")
    return float(span.low), float(span.high)


def percentile_interval(
    arrays: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], *, seed: int
) -> tuple[float, float]:
    """Where the middle 95 % of the statistic lie when examples are drawn again with replacement.

    Args:
        arrays: (example,) each; what belongs to one example is drawn together.
        statistic: the arrays, reduced over `axis`, to a number.
        seed: of the resamples. Those on which the number is not defined are left out.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample may hold nothing to count
        drawn = bootstrap(
            arrays,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, CELLS // (len(arrays[0]) * len(arrays))),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = np.nanquantile(drawn.bootstrap_distribution, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


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
