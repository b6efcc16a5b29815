"""Means over examples, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 1000


def mean(values: Sequence[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over examples; NaN with fewer than two.

    Example:
        >>> interval([1.0, 1.0, 1.0], seed=0)
        (1.0, 1.0)
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
    low, high = np.quantile(known[drawn].mean(1), (0.025, 0.975))
    return float(low), float(high)
