"""Contributions of keys: what a head would add to the residual if it looked at one key alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def write_norms(
    values: Float[Tensor, "*example head key width"], projection: Float[Tensor, "head width model_width"]
) -> Float[Tensor, "*example head key"]:
    """Norm of what each key writes at full weight, ‖v W_O‖.

    Kobayashi et al., "Attention is Not Only a Weight" (2020): times the weight it is the norm of the key's part in a
    head's output, ‖A v W_O‖, or ‖A x W_OV‖ where v = x W_V. The bias of the values is part of v; that of W_O belongs to
    no key.

    Args:
        values: of every query head; heads of a group share theirs.
        projection: W_O per head, or what `compact` makes of it.

    Returns:
        0 or more, in the unit of the residual; float32 or wider.

    Example:
        >>> write_norms(torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]), torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))
        tensor([[7.2111, 2.0000]])
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    return (values.to(dtype) @ projection.to(dtype)).norm(dim=-1)


def compact(projection: Float[Tensor, "head width model_width"]) -> Float[Tensor, "head width inner"]:
    """A smaller matrix behind which every vector has the length that it has behind W_O: R of W_Oᵀ = QR, transposed.

    Example:
        >>> compact(torch.tensor([[[3.0, 4.0, 0.0]]])).abs()
        tensor([[[5.]]])
    """
    wide = projection.to(torch.promote_types(projection.dtype, torch.float32))
    return torch.linalg.qr(wide.mT, mode="r").R.mT
