"""What the loss would be if a row could not see a key, to first order, and how far a head needs to see."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def masking_influence(
    attn: Float[Tensor, "*lead query key"], gradient: Float[Tensor, "*lead query key"]
) -> Float[Tensor, "*lead query key"]:
    """Change of the loss when a key is hidden from a row and the row is scaled up to one again.

    E = -A (G - sum of G A) / (1 - A), exact for a loss that is linear in the row ("MoA: Mixture of Sparse Attention",
    arXiv 2406.14909). A row that has all its weight on one key loses it: -G A. In the unit of the loss.

    Args:
        attn: attention probabilities.
        gradient: of the loss with respect to them.

    Example:
        >>> row, slope = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[2.0, 0.0, 2.0]])
        >>> masking_influence(row, slope)  # 1.5 with all of them, 1, 2 and 4 / 3 without one
        tensor([[-0.5000,  0.5000, -0.1667]])
    """
    others = 1.0 - attn
    alone = others < torch.finfo(attn.dtype).eps
    change = -attn * (gradient - (gradient * attn).sum(-1, keepdim=True)) / others.where(~alone, 1.0)
    return torch.where(alone, -gradient * attn, change)


def band_span(
    influence: Float[Tensor, "*lead query key"],
    distance: Int[Tensor, "query key"],
    *,
    share: float,
    first: int = 1,
) -> Int[Tensor, "*lead"]:
    """Width of the narrowest band that holds a share of all influence together with the first keys, in keys.

    A band of width S has the row's own key and the S - 1 before it; 0 where the first keys are enough.

    Args:
        influence: of any sign; sizes are added up.
        distance: from every row back to every key, below 0 for keys that it may not see.
        share: of the sum of sizes over all rows and keys.
        first: keys that every row sees besides.

    Example:
        >>> distance = torch.arange(4)[:, None] - torch.arange(4)
        >>> band_span(((distance == 0) | (distance == 1)).float(), distance, share=1.0, first=0)
        tensor(2)
    """
    size = influence.abs().where(distance >= 0, 0.0)
    counted = size.clone()
    counted[..., :first] = 0.0
    by_distance = size.new_zeros(*size.shape[:-2], distance.shape[-1] + 1)  # the last stays 0
    index = distance.clamp_min(0).flatten().expand(*size.shape[:-2], -1)
    by_distance.scatter_add_(-1, index, counted.flatten(-2))
    outside = by_distance.flip(-1).cumsum(-1).flip(-1)
    least = (1.0 - share + 1e-6) * size.sum((-2, -1))
    return (outside <= least.unsqueeze(-1)).int().argmax(-1)
