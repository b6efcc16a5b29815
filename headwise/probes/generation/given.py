"""Digests of what a prompt was given beside its token ids: positions of its own, and embeddings without ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from headwise.probes.generation.generate_call import GenerateCall

Given = dict[str, list[str]]
"""Argument of the model's forward -> a digest for every example, empty where there is nothing to tell."""


def given(inputs: Mapping[str, Any], call: GenerateCall | None, past: int) -> Given:
    """Digests of a prompt behind `past` cached positions; of a call of `generate`, by what the user gave it.

    Padding does not count, and positions that count the real tokens are those that a model has by itself.
    """
    said = inputs if call is None else call.outermost.arguments
    found: Given = {}
    for prefix in ("", "decoder_"):
        mask = said.get(f"{prefix}attention_mask")
        mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        embedded, positions = said.get(f"{prefix}inputs_embeds"), said.get(f"{prefix}position_ids")
        if isinstance(embedded, Tensor) and embedded.dim() == 3 and inputs.get(f"{prefix}input_ids") is None:
            real = _real(mask, *embedded.shape[:2])
            found[f"{prefix}inputs_embeds"] = [
                _digest(one[own]) for one, own in zip(embedded.cpu(), real, strict=True)
            ]
        if isinstance(positions, Tensor) and positions.dim() > 1 and not _counts(positions, mask, past):
            examples = positions if positions.dim() == 2 else positions.movedim(-2, 0)
            examples = examples.cpu()
            real = _real(mask, len(examples), examples.shape[-1])
            pairs = zip(examples, real, strict=True)
            found[f"{prefix}position_ids"] = [_digest(one[..., own]) for one, own in pairs]
    return found


def given_to_all(runs: Iterable[tuple[Given, int]]) -> Given:
    """Digests of several runs of so many examples, behind one another."""
    runs = list(runs)
    names = dict.fromkeys(name for found, _ in runs for name in found)
    return {name: [one for own, count in runs for one in own.get(name, [""] * count)] for name in names}


def _counts(positions: Tensor, mask: Tensor | None, past: int) -> bool:
    """True for positions that number the real tokens of every example from 0."""
    length = positions.shape[-1]
    if mask is None or mask.shape[1] < length or positions.shape[-2] not in (1, len(mask)):
        return bool((positions == torch.arange(past, past + length, device=positions.device)).all())
    real = mask.to(positions.device) != 0
    numbers = real.cumsum(-1) - 1
    return bool(((positions == numbers[:, -length:]) | ~real[:, -length:]).all())


def _real(mask: Tensor | None, examples: int, length: int) -> Tensor:
    if mask is None or mask.shape[0] != examples or mask.shape[1] < length:
        return torch.ones(examples, length, dtype=torch.bool)
    return mask[:, -length:].cpu() != 0


def _digest(values: Tensor) -> str:
    array = values.detach().cpu().double().numpy()
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()[:16]
