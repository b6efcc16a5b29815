"""How far a model's answer follows a map when the largest, or all but the largest, of its positions are taken away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the positions over which comprehensiveness and sufficiency are averaged (ERASER)."""


def curve_area(fractions: Sequence[float], values: Float[Tensor, "*lead step"]) -> Float[Tensor, "*lead"]:
    """Area under a curve of deletion or insertion, by trapezoids; the fractions go from 0 to 1.

    Example:
        >>> curve_area([0.0, 0.5, 1.0], torch.tensor([1.0, 0.0, 0.0]))
        tensor(0.2500)
    """
    steps = torch.tensor(list(fractions)).to(values)
    return ((values[..., 1:] + values[..., :-1]) / 2 * steps.diff()).sum(-1)


def top_positions(
    saliency: Float[Tensor, " position"], removable: Bool[Tensor, " position"], fraction: float
) -> Bool[Tensor, " position"]:
    """True at the largest share of the positions that may be taken away, one or more where the share is not 0.

    Of equal ones the first.

    Example:
        >>> top_positions(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([True, False, True]), 0.5)
        tensor([False, False,  True])
    """
    order = saliency.where(removable, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    count = int(removable.sum())
    taken = min(count, max(1, round(fraction * count))) if fraction > 0 else 0
    return torch.zeros_like(removable).scatter(0, order[:taken], True)
