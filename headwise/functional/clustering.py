"""Groups of heads that look at the same keys, and of anything else by its distances."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.functional.divergence import jensen_shannon


def pattern_distances(patterns: Float[Tensor, "head query key"]) -> Float[Tensor, "head head"]:
    """Jensen-Shannon divergence of every two heads' patterns, mean over rows, in nats: 0 to ln 2.

    Clark et al. 2019, "What Does BERT Look at?", section 6, where it is a sum over rows.

    Example:
        >>> pattern_distances(torch.stack([torch.eye(2), torch.eye(2), torch.eye(2).flip(0)]))[0]
        tensor([0.0000, 0.0000, 0.6931])
    """
    return torch.stack([jensen_shannon(one.expand_as(patterns), patterns).mean(-1) for one in patterns])


def silhouettes(
    distances: Float[Tensor, "item item"], groups: Int[Tensor, " item"]
) -> Float[Tensor, " item"]:
    """How much nearer each item is to its own group than to the nearest other one, -1 to 1; 0 for an item alone.

    Rousseeuw 1987, "Silhouettes". There are two groups or more.

    Example:
        >>> far = torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 2.0], [4.0, 2.0, 0.0]])
        >>> silhouettes(far, torch.tensor([0, 0, 1]))
        tensor([0.7500, 0.5000, 0.0000])
    """
    members = torch.nn.functional.one_hot(groups).to(distances.dtype)
    sizes = members.sum(0)
    sums = distances @ members
    own = torch.nn.functional.one_hot(groups, len(sizes)).bool()
    within = sums[own] / (sizes[groups] - 1)
    near = (sums / sizes).masked_fill(own, torch.inf).amin(-1)
    return ((near - within) / torch.maximum(near, within)).where(sizes[groups] > 1, 0.0).nan_to_num(0.0)


def adjusted_rand(one: Int[Tensor, " item"], other: Int[Tensor, " item"]) -> float:
    """Agreement of two ways to group items, by the pairs they put together: 1 is the same, 0 what chance gives.

    Hubert and Arabie 1985, "Comparing Partitions", equation 5. NaN where both put all together, or none.

    Example:
        >>> round(adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 2])), 4)
        0.5714
    """
    table = torch.nn.functional.one_hot(one).T.double() @ torch.nn.functional.one_hot(other).double()

    def pairs(counts: Tensor) -> float:
        return float((counts * (counts - 1)).sum()) / 2

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = rows * columns / (len(one) * (len(one) - 1) / 2)
    largest = (rows + columns) / 2
    return (both - expected) / (largest - expected) if largest != expected else math.nan
