"""Taking keys out of attention rows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def hide_keys(
    pattern: Float[Tensor, "*lead query key"], hidden: Bool[Tensor, "*#lead #query key"]
) -> Float[Tensor, "*lead query key"]:
    """The pattern without the weight on hidden keys; the others grow in proportion, and rows keep their sums.

    The same as hiding the keys before the softmax. Rows that look at nothing else are left alone.

    Example:
        >>> hide_keys(torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[True, False, False]]))
        tensor([[0.0000, 0.5000, 0.5000]])
    """
    wide = pattern.to(torch.promote_types(pattern.dtype, torch.float32))
    left = wide.masked_fill(hidden, 0.0)
    rest = left.sum(-1, keepdim=True)
    grown = left * (wide.sum(-1, keepdim=True) / rest.clamp_min(1e-9))
    return torch.where(rest > 1e-6, grown, wide).to(pattern.dtype)
