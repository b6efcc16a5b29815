"""Attention taken from sinks and given to the other keys."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def calibrate(
    pattern: Float[Tensor, "*lead query key"], sinks: Bool[Tensor, "*#lead #query key"], *, beta: float = 0.4
) -> Float[Tensor, "*lead query key"]:
    """Attention on sinks times `beta`; what is freed goes to the other keys in proportion to what they have.

    Sums of rows stay as they are; rows that look at nothing else are left alone. Yu et al. 2024 (ICML), after their
    code.

    Example:
        >>> row, sink = torch.tensor([[0.4, 0.4, 0.2]]), torch.tensor([[False, True, False]])
        >>> calibrate(row, sink)
        tensor([[0.5600, 0.1600, 0.2800]])
    """
    wide = pattern.float()
    on_sinks = (wide * sinks).sum(-1, keepdim=True)
    rest = wide.masked_fill(sinks, 0.0).sum(-1, keepdim=True)
    grow = on_sinks * (1 - beta) / rest.clamp_min(1e-6) + 1
    new = wide * torch.where(sinks, beta, grow)
    if float(rest.detach().amin()) < 1e-6:
        new = torch.where(rest < 1e-6, wide, new)
    return new.to(pattern.dtype)
