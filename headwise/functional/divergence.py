"""How much the outputs of heads change between two readings."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Distance = Literal["plain", "relative", "cosine"]
Deviation = Literal["sample", "population"]
NOISE = 1e-4
"""Share of a layer's typical output below which a divergence is rounding."""


def head_divergence(
    seeing: Float[Tensor, "*lead head width"],
    blind: Float[Tensor, "*lead head width"],
    *,
    distance: Distance = "plain",
) -> Float[Tensor, "*lead head"]:
    """How much a head's output changes when the image is taken away: VHD of He et al. 2025 (arXiv 2412.13949, Eq. 4).

    `"plain"` is the Euclidean distance of the outputs before W_O, 0 or more; `"relative"` divides by the norm with the
    image, `"cosine"` is 1 - cos (both ours: heads with large outputs dominate the plain distance).

    Example:
        >>> head_divergence(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([5.])
    """
    a, b = seeing.float(), blind.float()
    if distance == "cosine":
        return 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-12)
    far = (a - b).norm(dim=-1)
    return far / (a.norm(dim=-1) + 1e-6) if distance == "relative" else far


def sensitive_heads(
    divergence: Float[Tensor, "*lead head"],
    text_energy: Float[Tensor, "*lead head"],
    *,
    outliers: bool = True,
    deviation: Deviation = "sample",
    noise: float = NOISE,
) -> Bool[Tensor, "*lead head"]:
    """The half of a layer's heads that the image changes most.

    First the divergence of a head is set to 0 where both it and the squared norm of the head's output without image
    exceed their mean over the layer by a standard deviation (Eq. 6 of arXiv 2412.13949: such a head reacts to the
    missing image rather than to the image). Then heads above the median are chosen: half of them when the number is
    even and no two are equal, fewer with ties.

    Args:
        divergence: from `head_divergence`.
        text_energy: squared norm of every head's output without image.
        outliers: False keeps the outliers.
        deviation: "sample" divides by n - 1; the paper does not say which.
        noise: a head whose divergence is below this share of the layer's typical output is not chosen (ours): where
            the image cannot reach, divergences are rounding errors.

    Example:
        >>> divergence = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20])
        >>> energy = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 30])
        >>> sensitive_heads(divergence, energy).nonzero().flatten().tolist()
        [3, 4, 5, 6]
    """
    if outliers:
        far = _above(divergence, deviation) & _above(text_energy, deviation)
        divergence = divergence.masked_fill(far, 0.0)
    floor = noise * text_energy.mean(-1, keepdim=True).sqrt()
    return (divergence > divergence.median(-1, keepdim=True).values) & (divergence > floor)


def _above(values: Tensor, deviation: Deviation) -> Tensor:
    spread = values.std(-1, keepdim=True, correction=1 if deviation == "sample" else 0)
    return values > values.mean(-1, keepdim=True) + spread
