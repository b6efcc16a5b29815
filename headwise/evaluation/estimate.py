"""A number with its interval: bootstrap over examples (scipy)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from headwise.evaluation.task import Metric

RESAMPLES = 2000
LEVEL = 0.95


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
    higher_is_better: bool
    method: str
    """How the 95 % interval was found."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """The fields; a number that is not defined is None."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Estimate:
        """What `to_dict` gave."""
        values: dict[str, Any] = {
            name: float("nan") if value is None else value for name, value in fields.items()
        }
        return cls(**values)


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
    from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

    columns = np.stack([np.asarray(table[column], dtype=float) for column in metric.columns])
    arrays = list(columns[:, ~np.isnan(columns).any(0)])
    n = len(arrays[0])
    value = float(metric.statistic(*arrays, axis=-1)) if n else float("nan")
    facts = (metric.unit, metric.higher_is_better)
    if n < 2 or not np.isfinite(value):
        return Estimate(metric.name, value, float("nan"), float("nan"), n, *facts, "none: too few examples")
    if len(arrays) == 1 and metric.unit == "share" and (np.all(arrays[0] == 0) or np.all(arrays[0] == 1)):
        span = binomtest(int(arrays[0].sum()), n).proportion_ci(LEVEL, method="wilson")
        return Estimate(metric.name, value, float(span.low), float(span.high), n, *facts, "Wilson")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample may hold nothing to count
        drawn = bootstrap(
            arrays,
            metric.statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // (n * len(arrays))),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = np.nanquantile(drawn.bootstrap_distribution, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        metric.name, value, float(low), float(high), n, *facts, f"percentile bootstrap, {RESAMPLES} resamples"
    )
