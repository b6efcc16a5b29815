"""How far rows look."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor


def mean_distance(
    attn: Float[Tensor, "*lead query key"], *, positions: Real[Tensor, " query"] | None = None
) -> Float[Tensor, "*lead query"]:
    """Mean of |i − j| under every attention row, in positions.

    0 means the row looks at itself; a flat causal row i gives i / 2.

    Args:
        attn: attention probabilities.
        positions: position of every query row among the keys; without it, 0, 1, 2, …

    Example:
        >>> mean_distance(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0.0000, 0.5000])
    """
    p = attn.float() if attn.dtype in (torch.float16, torch.bfloat16) else attn
    keys = torch.arange(attn.shape[-1], device=attn.device)
    rows = torch.arange(attn.shape[-2], device=attn.device) if positions is None else positions
    return (p * (rows[:, None] - keys).abs()).sum(-1)


def relative_distance(
    distance: Float[Tensor, "example head query"], *, n_keys: Float[Tensor, "example query"]
) -> Float[Tensor, "example head query"]:
    """Mean attention distance of a row as a share of the longest it could be, visible keys − 1.

    0 means the row looks at itself. For a causal row 1 means that it looks at the first key, and 0.5 is a
    flat row; for a bidirectional row the divisor is the length of the sequence − 1, whatever the row's own
    place. A row that sees fewer than two keys gives NaN.

    Args:
        distance: mean of |i − j| under the row's weights, in positions.
        n_keys: number of keys each row may see.

    Example:
        >>> relative_distance(torch.tensor([[[0.0, 1.5]]]), n_keys=torch.tensor([[1.0, 4.0]]))
        tensor([[[   nan, 0.5000]]])
    """
    choices = n_keys.where(n_keys >= 2, torch.nan)[:, None]
    return distance / (choices - 1)


def quantile_distance(
    near: Float[Tensor, "*row offset"], total: Float[Tensor, "*row"], *, quantile: float
) -> Float[Tensor, "*row"]:
    """Smallest d such that the keys at most d positions back hold a share of the row, in positions.

    0 means that the row's own key does. Where the keys at hand do not, d is their number: a lower bound. NaN where a
    row has no weight.

    Args:
        near: weights on the row's own key and those before it, in this order.
        total: sum of the row.
        quantile: the share, above 0 and at most 1.

    Example:
        >>> quantile_distance(torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.1, 0.0]]), torch.ones(2), quantile=0.8)
        tensor([1., 3.])
    """
    reached = near.cumsum(-1) >= quantile * total.unsqueeze(-1) - 1e-6
    return (~reached).sum(-1).to(near.dtype).where(total > 0, torch.nan)
