"""Heads that look for what followed the same token before."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def induction_score(
    pattern: Float[Tensor, "*lead query key"], *, period: int, first: int | None = None
) -> Float[Tensor, "*lead"]:
    """Mean attention from every token of the second copy of a sequence to the token behind its first occurrence.

    0 to 1; 1 is a head that does nothing else. Olsson et al. 2022, "In-context Learning and Induction Heads".

    Args:
        pattern: attention probabilities over a sequence that stands there twice.
        period: length of the sequence, in tokens.
        first: position of the second copy; `period` when nothing stands in front of the first.

    Example:
        >>> pattern = torch.zeros(4, 4)
        >>> pattern[2, 1] = pattern[3, 2] = 1.0
        >>> induction_score(pattern, period=2)
        tensor(1.)
    """
    start = period if first is None else first
    query = torch.arange(start, start + period, device=pattern.device)
    return pattern[..., query, query - period + 1].float().mean(-1)
