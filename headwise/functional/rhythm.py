"""Rhythm of reasoning: how far local heads reach, which tokens global heads return to, and where both have peaks.

After "Attention Illuminates LLM Reasoning: The Preplan-and-Anchor Rhythm Enables Fine-Grained Policy Optimization"
(arXiv 2510.13554), which gives no code; what it leaves open is *ours*.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def windowed_distance(
    near: Float[Tensor, "*lead query offset"], total: Float[Tensor, "*lead query"]
) -> Float[Tensor, "*lead query"]:
    """Mean distance of every row to its keys, where a key `window` positions away or more counts as `window` (WAAD).

    Args:
        near: weight on the row's own position and on the `window - 1` before it.
        total: sum of the row: 1, or less where the model has sink logits.

    Returns:
        0 (the row looks at itself) to the window (all weight beyond it), in positions.

    Example:
        >>> windowed_distance(torch.tensor([[0.5, 0.25]]), torch.tensor([1.0]))
        tensor([0.7500])
    """
    window = near.shape[-1]
    steps = torch.arange(window, dtype=near.dtype, device=near.device)
    return (near * steps).sum(-1) + window * (total - near.sum(-1)).clamp_min(0.0)


def rows_behind(
    rows: Bool[Tensor, "example position"], span: tuple[int, int]
) -> Float[Tensor, "example position"]:
    """Number of rows that stand between so many and so many positions behind every position.

    Args:
        rows: True where there is a row, by absolute position.
        span: the nearest and the farthest, both included.

    Example:
        >>> rows_behind(torch.ones(1, 5, dtype=torch.bool), (1, 2))
        tensor([[2., 2., 2., 1., 0.]])
    """
    length = rows.shape[1]
    counted = torch.nn.functional.pad(rows.long().cumsum(1), (1, 0))
    at = torch.arange(length, device=rows.device)
    low, high = (at + span[0]).clamp(max=length), (at + span[1] + 1).clamp(max=length)
    return (counted[:, high] - counted[:, low]).float()


def peaks(values: Float[np.ndarray, " position"], share: float = 0.4) -> Bool[np.ndarray, " position"]:
    """Positions whose value is at least that of both neighbours, above one of them, and among the highest (ours).

    Args:
        values: one per position; NaN is never a peak, and no neighbour.
        share: a peak is among this share of the highest values.

    Example:
        >>> peaks(np.array([0.0, 2.0, 1.0, 1.0, 3.0])).tolist()
        [False, True, False, False, True]
    """
    known = ~np.isnan(values)
    if not known.any():
        return known
    high = values >= np.nanquantile(values, 1.0 - share)
    before = np.concatenate([[np.nan], values[:-1]])
    after = np.concatenate([values[1:], [np.nan]])
    least = np.fmax(before, after)
    above = (values > before) | (values > after)
    return known & high & above & ~(values < np.nan_to_num(least, nan=-np.inf))


def kurtosis(
    values: Float[Tensor, "*lead position"], known: Bool[Tensor, " position"]
) -> Float[Tensor, "*lead"]:
    """Kurtosis over positions (3 for a normal distribution): high where a few positions stand out.

    NaN where fewer than two positions are known or all are alike.

    Example:
        >>> kurtosis(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.ones(4, dtype=torch.bool))
        tensor([2.3333])
    """
    some = values[..., known].double()
    centred = some - some.mean(-1, keepdim=True)
    variance = centred.square().mean(-1)
    return (centred.pow(4).mean(-1) / variance.square()).where(variance > 0, torch.nan).float()
