"""95 % intervals by kind of number: shares by Wilson, other rates by BCa, everything else by the percentile."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
BOOTSTRAP = f"percentile bootstrap, {RESAMPLES} resamples"
BCA = f"BCa bootstrap, {RESAMPLES} resamples"
WILSON = "Wilson"
BOUND = "Wilson's bound of 0, over the mean count"
TOO_NARROW = "too narrow: "
ROUGH = "rough, n too small: "
"""Either begins the part of a method that says why its interval is to be doubted; a rough one is too narrow or too
wide."""
FEW = 100
"""Examples below which intervals of everything but a share are too narrow (benchmarks/coverage.py)."""
FEW_GROUPS = 20
"""Groups, or groups that differ, below which intervals of a share are rough."""
CELLS = 4_000_000
"""Numbers that are held at once while examples are drawn again."""


class Interval(NamedTuple):
    """The ends, and how they were found."""

    low: float
    high: float
    method: str


def interval(
    arrays: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    unit: str,
    pooled: bool,
    seed: int,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> Interval:
    """The interval of a number over examples, by the method that suits its kind.

    A share has Wilson's, which holds its level at every rate and where nothing was seen: of examples (one column of 0
    and 1), or of what is counted in them (pooled), where each example is a group of what it counts. Another rate of
    counts, pooled, such as errors per word, has the bias-corrected and accelerated bootstrap (Efron 1987), for errors
    are rare and the percentile lies below the truth; where nothing was seen, Wilson's bound for 0 of n over the mean
    count. All others have the percentile bootstrap. Where one is known to be too narrow, or rough, the method says so.

    Args:
        arrays: (example,) each, without NaN; two or more examples.
        statistic: the arrays, reduced over `axis`, to the number.
        unit: of the number; "share" lies between 0 and 1.
        pooled: the number is the sum of the first over the sum of the second.
        seed: of the resamples.
        groups: (example,) the number of the group of each, from 0, where some are about one picture or sentence: groups
            are drawn again whole, and Wilson counts the examples that as many independent ones would be worth.
        strata: (example,) the category of each, where examples are drawn again within categories.

    Example:
        >>> from headwise.evaluation.task import ratio
        >>> wrong, said = np.zeros(100), np.full(100, 4.0)
        >>> found = interval([wrong, said], ratio("wrong", "said").statistic, unit="share", pooled=True, seed=0)
        >>> round(found.high, 3), found.method
        (0.038, 'Wilson, groups')
    """
    n = len(arrays[0])
    counted = all(np.all((array >= 0) & (array == np.floor(array))) for array in arrays)
    if unit == "share" and counted and (pooled or len(arrays) == 1):
        above, below = (arrays[0], arrays[1]) if pooled else (arrays[0], np.ones(n))
        if groups is None and below.max() <= 1 and (above <= below).all():
            return Interval(*wilson(above.sum(), below.sum()), WILSON)
        if (above <= below).all():
            return _wilson_of_groups(above, below, np.arange(n) if groups is None else groups)
    if groups is not None and pooled:
        arrays, groups = [np.bincount(groups, array) for array in arrays], None
        n = len(arrays[0])
    if pooled and counted:
        above, below = arrays
        if not above.any():
            return Interval(0.0, float(wilson(0, n)[1] / below.mean()), said(BOUND, _few(n)))
        ends = _bca(above, below, resampled(arrays, statistic, seed=seed))
        if ends is not None:
            return Interval(*ends, said(BCA, _few(n)))
    few = _few(count_units(n, groups))
    return percentile_interval(arrays, statistic, doubt=few, seed=seed, groups=groups, strata=strata)


def wilson(count: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, `count` of `n`.

    Example:
        >>> tuple(round(end, 3) for end in wilson(0, 50))
        (0.0, 0.071)
    """
    from scipy.special import ndtri

    z, share = ndtri((1 + LEVEL) / 2), count / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(max(middle - half, 0.0) if count else 0.0), float(
        min(middle + half, 1.0) if count < n else 1.0
    )


def resampled(
    arrays: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    seed: int,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """The statistic of 2,000 samples of the examples, drawn with replacement; those on which it is defined.

    Args:
        arrays: (example,) each; what belongs to one example is drawn together.
        statistic: the arrays, reduced over `axis`, to a number.
        seed: of the resamples.
        groups: (example,) the number of the group of each, from 0: groups are drawn instead, whole.
        strata: (example,) the category of each: as many are drawn of each category as it has. A group that is in
            several is drawn in each by itself.
    """
    if groups is not None or strata is not None:
        drawn = _drawn_whole(np.stack(arrays), statistic, np.random.default_rng(seed), groups, strata)
        return drawn[~np.isnan(drawn)]
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
        ).bootstrap_distribution
    return drawn[~np.isnan(drawn)]


def _drawn_whole(
    table: np.ndarray,
    statistic: Callable[..., np.ndarray],
    rng: np.random.Generator,
    groups: np.ndarray | None,
    strata: np.ndarray | None,
) -> np.ndarray:
    """The statistic of samples of whole groups, drawn within strata; one by one, since samples differ in length."""
    n = table.shape[1]
    units = np.arange(n) if groups is None else groups
    categories = np.zeros(n) if strata is None else strata
    pools = []
    for category in np.unique(categories):
        members = np.flatnonzero(categories == category)
        order = members[np.argsort(units[members], kind="stable")]
        pools.append(np.split(order, np.flatnonzero(np.diff(units[order])) + 1))
    chosen = [rng.integers(0, len(pool), (RESAMPLES, len(pool))) for pool in pools]
    found = []
    for one in range(RESAMPLES):
        parts = [pool[k] for pool, rows in zip(pools, chosen, strict=True) for k in rows[one]]
        found.append(statistic(*table[:, np.concatenate(parts)], axis=-1))
    return np.asarray(found, dtype=float)


def percentile_interval(
    arrays: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    doubt: str | None,
    seed: int,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> Interval:
    """Where the middle 95 % of the statistic lie when examples are drawn again, see `resampled`.

    `doubt` is what is known against it already; where that is empty, heavy tails are looked for.
    """
    drawn = resampled(arrays, statistic, seed=seed, groups=groups, strata=strata)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if doubt == "" and _is_heavy(drawn):
        doubt = f"{TOO_NARROW}heavy tails"
    return Interval(float(low), float(high), said(BOOTSTRAP, doubt or ""))


def count_units(n: int, groups: np.ndarray | None) -> int:
    """How many can be drawn or exchanged: groups numbered from 0, or the `n` examples where each is one of its own."""
    return n if groups is None else int(groups.max()) + 1


def said(method: str, doubt: str) -> str:
    """A method with what is known against it."""
    return f"{method}; {doubt}" if doubt else method


def _few(n: int) -> str:
    return f"{TOO_NARROW}fewer than {FEW} examples" if n < FEW else ""


def _wilson_of_groups(above: np.ndarray, below: np.ndarray, groups: np.ndarray) -> Interval:
    """Wilson's interval of as many examples as independent ones would be worth.

    After Korn and Graubard 1998: the variance of a ratio of sums over groups says how many, and Student's t for so few
    groups takes off some more. Where all groups are alike, each of one size is worth one. Large groups count for less
    than their number, see `worth_of_groups`.
    """
    from scipy.stats import norm, t

    count, n = float(above.sum()), float(below.sum())

    sums, sizes = np.bincount(groups, above), np.bincount(groups, below)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    many, share = len(sizes), count / n
    apart = sums - share * sizes
    variance = (apart**2 / np.maximum(1 - sizes / n, 1e-9)).sum() / n**2
    alike = worth_of_groups(sizes)
    worth = alike if np.allclose(apart, 0) else share * (1 - share) / variance
    worth *= (norm.ppf((1 + LEVEL) / 2) / t.ppf((1 + LEVEL) / 2, max(alike - 1, 1))) ** 2
    return Interval(*wilson(share * worth, worth), said(f"{WILSON}, groups", few_groups(many, alike)))


def worth_of_groups(sizes: np.ndarray) -> float:
    """How many groups of one size groups of several sizes are worth: (Σ n)² / Σ n² (Kish 1965).

    Example:
        >>> worth_of_groups(np.array([4, 4])), worth_of_groups(np.array([6, 1, 1, 1, 1]))
        (2.0, 2.5)
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def few_groups(many: int, alike: float) -> str:
    """What is to be said of so many groups, worth so many of one size; "" when they are enough."""
    if many < FEW_GROUPS:
        return f"{ROUGH}fewer than {FEW_GROUPS} groups"
    unlike = alike < min(FEW_GROUPS, many / 2)
    return f"{ROUGH}groups of unlike size, worth fewer than {FEW_GROUPS}" if unlike else ""


def _bca(above: np.ndarray, below: np.ndarray, drawn: np.ndarray) -> tuple[float, float] | None:
    """The BCa interval of a pooled rate from its resamples; None where all of them, or all examples, are alike.

    As `scipy.stats.bootstrap` has it, but that the jackknife of a ratio of sums needs no loop.
    """
    from scipy.special import ndtr, ndtri

    value = above.sum() / below.sum()
    left = below.sum() - below
    jackknife = ((above.sum() - above) / np.where(left > 0, left, np.nan))[left > 0]
    apart = jackknife.mean() - jackknife
    smaller = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    if not apart.any() or not 0 < smaller < 1:
        return None
    speed = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    ends = ndtri(smaller) + ndtri([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(drawn, ndtr(ndtri(smaller) + ends / (1 - speed * ends)))
    return float(low), float(high)


def _is_heavy(drawn: np.ndarray) -> bool:
    """True where the resampled number is skewed so much that its interval misses on one side, by the rule of Cochran.

    A mean of n values of skewness g has one of g over the root of n, and is near enough to normal below 0.2.
    """
    apart = drawn - drawn.mean()
    spread = apart.std()
    return bool(spread > 0 and abs((apart**3).mean()) > 0.2 * spread**3)
