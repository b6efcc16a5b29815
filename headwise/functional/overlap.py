"""How much two maps over the same positions agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.functional.divergence import jensen_shannon

Rows = Float[Tensor, "*lead position"]
Measure = Callable[[Tensor, Tensor], Tensor]


def pearson(a: Rows, b: Rows) -> Float[Tensor, "*lead"]:
    """Pearson correlation, -1 to 1; NaN where a row is constant.

    The mean over rows is the correlation of all entries of two maps whose rows were z-scored.

    Example:
        >>> pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0]))
        tensor(1.)
    """
    x, y = (one.double() - one.double().mean(-1, keepdim=True) for one in torch.broadcast_tensors(a, b))
    norm = x.norm(dim=-1) * y.norm(dim=-1)
    constant = (_constant(a) | _constant(b)) | (norm == 0)
    return ((x * y).sum(-1) / norm.where(~constant, 1.0)).where(~constant, torch.nan).float()


def spearman(a: Rows, b: Rows) -> Float[Tensor, "*lead"]:
    """Correlation of ranks, ties at their average, -1 to 1; NaN where a row is constant.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([0.0, 5.0, 6.0]))
        tensor(1.)
    """
    return pearson(ranks(a), ranks(b))


def shannon_jensen(a: Rows, b: Rows) -> Float[Tensor, "*lead"]:
    """Jensen-Shannon divergence of two maps as distributions, in bits: 0 for equal ones, 1 for such that share nothing.

    Example:
        >>> shannon_jensen(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]))
        tensor(1.)
    """
    return jensen_shannon(distribution(a), distribution(b)) / math.log(2)


def intersection(a: Rows, b: Rows, *, share: float = 0.1) -> Float[Tensor, "*lead"]:
    """Share of the largest positions of b that are among those of a, less what chance gives: 0 is chance, 1 is all.

    Example:
        >>> intersection(torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([9.0, 1.0, 2.0, 0.0]), share=0.5)
        tensor(0.)
    """
    n, k = a.shape[-1], _count(a, share)
    both = (largest(a, share=share) & largest(b, share=share)).sum(-1) / k
    return (both - k / n) / (1 - k / n) if k < n else torch.full_like(both, torch.nan)


def iou(a: Rows, b: Rows, *, share: float = 0.1) -> Float[Tensor, "*lead"]:
    """Intersection over union of the largest positions of both, 0 to 1.

    Example:
        >>> iou(torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([9.0, 1.0, 2.0, 0.0]), share=0.5)
        tensor(0.3333)
    """
    one, two = largest(a, share=share), largest(b, share=share)
    return (one & two).sum(-1) / (one | two).sum(-1)


def auc(a: Rows, b: Rows, *, share: float = 0.1) -> Float[Tensor, "*lead"]:
    """Probability that a is larger at one of the largest positions of b than at another, ties half; 0.5 is chance.

    Example:
        >>> auc(torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([9.0, 1.0, 2.0, 0.0]))
        tensor(0.5000)
    """
    positive, n = largest(b, share=share), a.shape[-1]
    k = _count(b, share)
    if k == n:
        return torch.full(torch.broadcast_shapes(a.shape, b.shape)[:-1], torch.nan)
    sums = ranks(a).where(positive, 0.0).sum(-1)
    return ((sums - k * (k + 1) / 2) / (k * (n - k))).float()


def earth_mover(a: Rows, b: Rows) -> Float[Tensor, "*lead"]:
    """Earth mover's distance of two maps as distributions along their axis, in shares of its length, 0 to 1.

    Example:
        >>> earth_mover(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
        tensor(0.5000)
    """
    far = (distribution(a) - distribution(b)).cumsum(-1).abs().sum(-1)
    return (far / max(a.shape[-1] - 1, 1)).float()


def on_salient(a: Rows, b: Rows, *, share: float = 0.1) -> Float[Tensor, "*lead"]:
    """Share of a on the largest positions of b, 0 to 1; a flat a gives `share`.

    Example:
        >>> on_salient(torch.tensor([0.7, 0.2, 0.1]), torch.tensor([5.0, 1.0, 0.0]))
        tensor(0.7000)
    """
    return distribution(a).where(largest(b, share=share), 0.0).sum(-1).float()


MEASURES: Mapping[str, Measure] = {
    "pearson": pearson,
    "spearman": spearman,
    "jensen_shannon": shannon_jensen,
    "intersection": intersection,
    "iou": iou,
    "auc": auc,
    "earth_mover": earth_mover,
    "on_salient": on_salient,
}
"""Name -> measure of the agreement of a map with a reference."""
DISTANCES = ("jensen_shannon", "earth_mover")
"""Measures that are small where maps agree."""


def distribution(rows: Rows) -> Rows:
    """Rows without what is negative, scaled to sum to 1; NaN where nothing is left.

    Example:
        >>> distribution(torch.tensor([3.0, -1.0, 1.0]))
        tensor([0.7500, 0.0000, 0.2500], dtype=torch.float64)
    """
    positive = rows.double().clamp_min(0)
    sums = positive.sum(-1, keepdim=True)
    return (positive / sums.where(sums > 0, 1.0)).where(sums > 0, torch.nan)


def largest(rows: Rows, *, share: float = 0.1) -> Bool[Tensor, "*lead position"]:
    """True at the largest positions, at least one; of equal ones the first.

    Example:
        >>> largest(torch.tensor([1.0, 3.0, 3.0]), share=0.1)
        tensor([False,  True, False])
    """
    order = rows.argsort(dim=-1, descending=True, stable=True)[..., : _count(rows, share)]
    return torch.zeros_like(rows, dtype=torch.bool).scatter(-1, order, True)


def ranks(rows: Rows) -> Rows:
    """Ranks from 1, ties at their average.

    Example:
        >>> ranks(torch.tensor([5.0, 1.0, 5.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    rows = rows.contiguous()
    ordered = rows.sort(-1).values
    below, upto = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    return (below + upto + 1).double() / 2


def _count(rows: Tensor, share: float) -> int:
    return max(1, math.ceil(share * rows.shape[-1]))


def _constant(rows: Tensor) -> Tensor:
    """Rows whose entries differ by rounding alone."""
    spread = rows.amax(-1) - rows.amin(-1)
    return spread <= 1e-6 * rows.abs().amax(-1)
