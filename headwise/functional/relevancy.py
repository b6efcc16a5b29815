"""Attention of all layers as one map: rollout, and relevancy by gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Step = tuple[Tensor, bool]
"""A pattern, mean over heads, (row, key), and whether its keys are the source's."""


def rollout(
    steps: Sequence[Step], source: Sequence[Float[Tensor, "position position"]] = ()
) -> tuple[Float[Tensor, "row row"], Float[Tensor, "row position"] | None]:
    """Attention rollout of Abnar & Zuidema 2020: patterns of all layers multiplied, each mixed with the residual.

    A pattern and the residual have half the weight each, cross-attention too (ours: the paper is about encoders).

    Args:
        steps: attention of the tower that writes, in the order in which it runs.
        source: self-attention of the tower that cross-attention reads, layer by layer.

    Returns:
        Share of every own position, and of every position of the source (None without cross-attention). The shares of a
        row sum to 1.

    Example:
        >>> rollout([(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), False)])[0]
        tensor([[1.0000, 0.0000],
                [0.2500, 0.7500]])
    """
    mixed = None
    for pattern in source:
        mixed = _mixed(pattern) if mixed is None else _mixed(pattern) @ mixed
    own, other = torch.eye(len(steps[0][0]), dtype=steps[0][0].dtype, device=steps[0][0].device), None
    for pattern, is_cross in steps:
        if is_cross:
            read = _normalised(pattern) if mixed is None else _normalised(pattern) @ mixed
            other = read / 2 if other is None else (other + read) / 2
            own = own / 2
        else:
            own = _mixed(pattern) @ own
            other = None if other is None else _mixed(pattern) @ other
    return own, other


def relevancy(
    steps: Sequence[Step], source: Sequence[Float[Tensor, "position position"]] = ()
) -> tuple[Float[Tensor, "row row"], Float[Tensor, "row position"] | None]:
    """Relevancy of Chefer et al. 2021 (ICCV), from patterns weighed by their gradients: mean over heads of (A · dA)⁺.

    Rows of R - 1 that are zero stay zero when they are normalised; the released code turns the whole update into zero
    there, and agrees elsewhere.

    Args:
        steps: weighed patterns of the tower that writes, in the order in which it runs.
        source: those of the self-attention of the tower that cross-attention reads.

    Returns:
        Relevancy of every own position (the identity included), and of every position of the source.

    Example:
        >>> relevancy([(torch.tensor([[0.0, 0.0], [0.5, 0.0]]), False)])[0]
        tensor([[1.0000, 0.0000],
                [0.5000, 1.0000]])
    """
    first = steps[0][0]
    within, own, other = None, torch.eye(len(first), dtype=first.dtype, device=first.device), None
    for pattern in source:
        within = torch.eye(len(pattern)).to(pattern) if within is None else within
        within = within + pattern @ within
    for pattern, is_cross in steps:
        if is_cross:
            read = (
                _alone(own).T
                @ pattern
                @ (torch.eye(pattern.shape[1]).to(pattern) if within is None else _alone(within))
            )
            other = read if other is None else other + read
        else:
            other = None if other is None else other + pattern @ other
            own = own + pattern @ own
    return own, other


def _mixed(pattern: Tensor) -> Tensor:
    """A pattern and the residual, half each."""
    return _normalised(pattern + torch.eye(len(pattern)).to(pattern))


def _normalised(rows: Tensor) -> Tensor:
    sums = rows.sum(-1, keepdim=True)
    return (rows / sums.where(sums != 0, 1.0)).where(sums != 0, 0.0)


def _alone(relevancies: Tensor) -> Tensor:
    """Relevancies whose part beyond the identity sums to one in every row."""
    identity = torch.eye(len(relevancies)).to(relevancies)
    return _normalised(relevancies - identity) + identity
