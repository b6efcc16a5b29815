"""Activations that are larger than the rest by orders of magnitude."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def is_massive(
    residual: Float[Tensor, "position width"], *, largest: float = 100.0, ratio: float = 1000.0
) -> tuple[Bool[Tensor, "position width"], float]:
    """Entries whose size exceeds `largest` and is `ratio` times the median size or more, and that median.

    Sun et al., "Massive Activations in Large Language Models". The median is over all entries, the lower of two.

    Args:
        residual: of one layer and example, without padding.
        largest: in the units of the residual.
        ratio: 0 or more.

    Example:
        >>> import torch
        >>> is_massive(torch.tensor([[0.1, -500.0], [0.2, 0.1]]))
        (tensor([[False,  True],
                [False, False]]), 0.1000...)
    """
    sizes = residual.abs()
    median = float(sizes.median())
    return (sizes > largest) & (sizes >= ratio * median), median
