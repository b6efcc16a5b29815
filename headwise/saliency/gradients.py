"""Saliency by gradients at the entry of the towers: one forward, and one backward for every token of the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.saliency.explained import Explained, Maps

Name = TypeVar("Name")
Reduce = Callable[[Tensor, Tensor], Tensor]
"""From hidden states and their gradient, (..., position, width), to a number per position."""


def product(hidden: Float[Tensor, "*lead width"], gradient: Float[Tensor, "*lead width"]) -> Tensor:
    """Gradient × input: what a position adds to the explained number, to first order; signed."""
    return (hidden.float() * gradient.float()).sum(-1)


def size(hidden: Float[Tensor, "*lead width"], gradient: Float[Tensor, "*lead width"]) -> Tensor:
    """Euclidean norm of the gradient; 0 or more."""
    return gradient.float().norm(dim=-1)


def norms(hidden: Float[Tensor, "*lead width"], gradient: Float[Tensor, "*lead width"]) -> Tensor:
    """NormGrad of Rebuffi et al. 2020: the norm of the input times that of the gradient; 0 or more."""
    return hidden.float().norm(dim=-1) * gradient.float().norm(dim=-1)


def by_gradient(example: Explained, reduce: Reduce) -> Maps:
    """Maps made of the hidden states that enter, and of the gradient of the explained number with respect to them.

    Raises:
        InputError: the target is a divergence, whose gradient is zero where nothing has changed.
    """
    require_slope(example)
    with torch.enable_grad():
        values, leaves = example.forward()
        rows: dict[str, list[Tensor]] = {tower: [] for tower in leaves}
        for token in range(values.shape[1]):
            for tower, gradient in gradients(
                values[0, token], leaves, last=token == values.shape[1] - 1
            ).items():
                rows[tower].append(reduce(leaves[tower].detach()[0], gradient[0]))
    return {tower: torch.stack(parts) for tower, parts in rows.items()}


def gradients(value: Tensor, leaves: dict[Name, Tensor], *, last: bool = True) -> dict[Name, Tensor]:
    """The gradient of one number with respect to each leaf; zeros where it does not reach."""
    found = torch.autograd.grad(value, list(leaves.values()), retain_graph=not last, allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if one is None else one
        for (name, leaf), one in zip(leaves.items(), found, strict=True)
    }


def require_slope(example: Explained) -> None:
    """Refuse a target without a gradient.

    Raises:
        InputError: it is one.
    """
    if example.target == "kl":
        raise InputError(
            "A divergence from the unchanged model has no gradient there: it is smallest.",
            evidence='target="kl"',
            remedy='Use target="log_probability" or "logit"; methods that take positions away know "kl".',
        )
