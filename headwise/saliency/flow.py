"""Attention flow: attention as a network of pipes from the last layer to the input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.functional.relevancy import Step

MOST = 40
"""Positions of a tower; every pair of a row and a position is a flow of its own."""
UNIT = 1_000_000
"""Whole numbers that stand for a capacity of 1."""


def largest_flows(
    steps: Sequence[Step], source: Sequence[Float[Tensor, "position position"]], rows: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Attention flow of Abnar & Zuidema 2020: the largest flow from a row of the last layer to each position.

    Capacities are those of rollout: a pattern and the residual, half each. Rows are scaled to sum to 1.

    Args:
        steps: attention of the tower that writes, in the order in which it runs.
        source: self-attention of the tower that cross-attention reads.
        rows: the rows that are wanted; the others are 0.

    Raises:
        InputError: a tower has more than 40 positions.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    own = len(steps[0][0])
    other = next((pattern.shape[1] for pattern, is_cross in steps if is_cross), 0)
    if max(own, other) > MOST:
        raise InputError(
            "Attention flow is for short inputs: every pair of positions is a flow of its own.",
            evidence=f"{max(own, other)} positions, at most {MOST}",
            remedy='Use method="rollout".',
        )
    width, deep = own + other, max(len(steps), 1) + len(source)
    edges = [coo_array((deep * width + width, deep * width + width))]
    level = 0

    def pipe(above: Tensor, start: int, to: int) -> None:
        high, low = np.nonzero(np.asarray(above > 0))
        size = np.asarray(above.double())[high, low] * UNIT
        places = (level * width + start + high, (level + 1) * width + to + low)
        edges.append(coo_array((size, places), shape=edges[0].shape))

    stay, hold = torch.eye(own), torch.eye(other)
    for pattern, is_cross in reversed(steps):  # from the last layer down
        pattern = pattern.detach().cpu()
        if is_cross:
            pipe(pattern / 2, 0, own)
            pipe(stay / 2, 0, 0)
        else:
            pipe((pattern + stay) / (pattern + stay).sum(-1, keepdim=True), 0, 0)
        pipe(hold * own, own, own)
        level += 1
    for pattern in reversed(source):
        pattern = pattern.detach().cpu()
        pipe(stay, 0, 0)
        pipe((pattern + hold) / (pattern + hold).sum(-1, keepdim=True), own, own)
        level += 1
    network = sum(edges[1:], edges[0]).tocsr().rint().astype(np.int32)
    flows = torch.zeros(own, width)
    for row in rows:
        for place in range(width):
            flows[row, place] = maximum_flow(network, row, level * width + place).flow_value
    flows = flows / flows.sum(-1, keepdim=True).clamp_min(1)
    return flows[:, :own], flows[:, own:] if other else None
