"""How much the outputs and patterns of heads change between two readings."""

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
        far = 1 - torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1, eps=1e-12)
        return far.clamp_min(0.0).float().masked_fill((a == b).all(-1), 0.0)
    far = (a - b).norm(dim=-1)
    return far / (a.norm(dim=-1) + 1e-6) if distance == "relative" else far


def written_divergence(
    seeing: Float[Tensor, "*lead head width"],
    blind: Float[Tensor, "*lead head width"],
    weight: Float[Tensor, "head width model_width"],
) -> Float[Tensor, "*lead head"]:
    """How much what a head adds to the residual changes: the Euclidean distance behind W_O (ours).

    Args:
        seeing: outputs before W_O.
        blind: the same of the other reading.
        weight: W_O per head.

    Example:
        >>> written_divergence(torch.ones(1, 2), torch.zeros(1, 2), torch.eye(2)[None])
        tensor([1.4142])
    """
    far = (seeing.float() - blind.float()).to(weight.dtype)
    return torch.einsum("...hw,hwd->...hd", far, weight).float().norm(dim=-1)


def total_variation(
    pattern: Float[Tensor, "*lead key"], other: Float[Tensor, "*lead key"]
) -> Float[Tensor, "*lead"]:
    """Half the absolute difference of two rows of attention: the share of the weight that has moved, 0 to 1.

    Example:
        >>> total_variation(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.0, 0.5]))
        tensor(0.5000)
    """
    return (pattern.float() - other.float()).abs().sum(-1) / 2


def jensen_shannon(
    pattern: Float[Tensor, "*lead key"], other: Float[Tensor, "*lead key"]
) -> Float[Tensor, "*lead"]:
    """Jensen-Shannon divergence of two rows of attention in nats: 0 for equal rows, ln 2 for rows that share no key.

    Example:
        >>> jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(0.6931)
    """
    p, q = pattern.double(), other.double()
    entropies = (torch.special.entr(p).sum(-1) + torch.special.entr(q).sum(-1)) / 2
    return (torch.special.entr((p + q) / 2).sum(-1) - entropies).clamp_min(0.0).float()


def reliance(divergence: Float[Tensor, "*lead head"], *, k: int | None = None) -> Float[Tensor, "*lead"]:
    """Sum of the `k` largest divergences of a layer; summed over layers it is the T-VHD of He et al. 2025.

    The text of the paper that we have does not say how many heads; an eighth of a layer, at least one, is ours.

    Example:
        >>> reliance(torch.tensor([3.0, 1.0, 2.0]), k=2)
        tensor(5.)
    """
    count = max(1, divergence.shape[-1] // 8) if k is None else k
    return divergence.topk(count, dim=-1).values.sum(-1)


def without_outliers(
    divergence: Float[Tensor, "*lead head"],
    text_energy: Float[Tensor, "*lead head"],
    *,
    deviation: Deviation = "sample",
) -> Float[Tensor, "*lead head"]:
    """The divergences, those of negative outliers 0: Eq. 6 of arXiv 2412.13949.

    An outlier exceeds the mean of its layer by a standard deviation both in its divergence and in the squared norm of
    its output without image: it reacts to the missing image rather than to the image.

    Example:
        >>> divergence = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20])
        >>> without_outliers(divergence, torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 30]))[-1]
        tensor(0.)
    """
    far = _above(divergence, deviation) & _above(text_energy, deviation)
    return divergence.masked_fill(far, 0.0)


def sensitive_heads(
    divergence: Float[Tensor, "*lead head"],
    text_energy: Float[Tensor, "*lead head"],
    *,
    outliers: bool = True,
    deviation: Deviation = "sample",
    noise: float = NOISE,
) -> Bool[Tensor, "*lead head"]:
    """The half of a layer's heads that the image changes most.

    First outliers are set to 0 (`without_outliers`). Then heads above the median are chosen: half of them when the
    number is even and no two are equal, fewer with ties.

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
        divergence = without_outliers(divergence, text_energy, deviation=deviation)
    floor = noise * text_energy.mean(-1, keepdim=True).sqrt()
    return (divergence > divergence.median(-1, keepdim=True).values) & (divergence > floor)


def _above(values: Tensor, deviation: Deviation) -> Tensor:
    spread = values.std(-1, keepdim=True, correction=1 if deviation == "sample" else 0)
    return values > values.mean(-1, keepdim=True) + spread
