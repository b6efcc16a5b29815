"""How attention spreads over the neighbourhood of a patch."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def hops(rows: Int[Tensor, "query 2"], keys: Int[Tensor, "key 2"]) -> Int[Tensor, "query key"]:
    """Chebyshev distance between places of a grid: ring k of a patch is all that are k hops away, 8 k at most.

    Args:
        rows: row and column of every query.
        keys: row and column of every key.

    Example:
        >>> import torch
        >>> places = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        >>> hops(places[:1], places)  # from a corner
        tensor([[0, 1, 2, 1, 1, 2, 2, 2, 2]])
    """
    return (rows[:, None] - keys).abs().amax(-1)


def ring_mass(
    attn: Float[Tensor, "*lead query key"], apart: Int[Tensor, "query key"]
) -> Float[Tensor, "*lead query ring"]:
    """Attention of every row on each ring around it, from 0 hops to the farthest there is.

    Args:
        attn: attention probabilities; of ones, the result is the sizes of the rings.
        apart: hops from every query to every key.

    Example:
        >>> import torch
        >>> places = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        >>> ring_mass(torch.full((9, 9), 1 / 9), hops(places, places)).mean(0)
        tensor([0.1111, 0.4938, 0.3951])
    """
    rings = attn.new_zeros(*attn.shape[:-1], int(apart.max()) + 1)
    return rings.scatter_add(-1, apart.expand(attn.shape), attn)
