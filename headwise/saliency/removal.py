"""Saliency by taking positions away: no gradient, and all tokens of the reply in one pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.saliency.explained import Explained, Maps
from headwise.saliency.paths import baseline


def ablation(example: Explained, batch: int = 32) -> Maps:
    """What the explained number loses when one position is replaced by the mean of all (feature ablation); signed.

    Args:
        example: what is explained.
        batch: positions that are taken away side by side.
    """
    with torch.no_grad():
        whole, entered = example.forward()
    found: Maps = {}
    for tower, hidden in entered.items():
        removed = torch.eye(hidden.shape[1], dtype=torch.bool)
        without = torch.cat(list(values_without(example, {tower: removed}, batch)))
        found[tower] = (whole - without).T
    return found


def values_without(
    example: Explained, removed: dict[str, Bool[Tensor, "copy position"]], batch: int = 32
) -> Iterator[Float[Tensor, "copy token"]]:
    """The explained numbers with sets of positions replaced by the mean of all, `batch` of them side by side."""
    nothing = baseline(example)
    for start in range(0, len(next(iter(removed.values()))), batch):
        chosen = {tower: masks[start : start + batch] for tower, masks in removed.items()}

        def without(tower: str, hidden: Tensor, chosen: dict[str, Tensor] = chosen) -> Tensor:
            if tower not in chosen:
                return hidden
            return nothing[tower].where(chosen[tower].to(hidden.device)[..., None], hidden)

        with torch.no_grad():
            yield example.forward(without, len(next(iter(chosen.values()))))[0]
