"""Inputs of the tiny models: functions that make the same tensors at every call."""

from __future__ import annotations

from collections.abc import Callable

import torch

from headwise.testing.inputs import PADDED, Inputs, pictures, random_ids
from headwise.testing.models import IMAGE_TOKEN

VOCABULARY = 128


def plain_tokens(batch: int = 2, length: int = 12) -> Inputs:
    """Token ids and nothing else."""
    return {"input_ids": random_ids(batch, length)}


def padded_tokens(side: str = "left", batch: int = 2, length: int = 12) -> Inputs:
    """Token ids of which the second example has three positions of padding."""
    inputs = plain_tokens(batch, length)
    mask = torch.ones(batch, length, dtype=torch.long)
    hidden = slice(0, PADDED) if side == "left" else slice(length - PADDED, length)
    mask[1, hidden] = 0
    return {"input_ids": inputs["input_ids"].masked_fill(mask == 0, 0), "attention_mask": mask}


TOKENS = {"plain": plain_tokens, "padded": padded_tokens, "padded right": lambda: padded_tokens("right")}


def plain_translation() -> Inputs:
    """Source and target ids."""
    return plain_tokens() | {"decoder_input_ids": random_ids(2, 7, seed=2)}


def padded_translation() -> Inputs:
    """As `plain_translation`; the second source has three positions of padding on its right."""
    return padded_tokens("right") | {"decoder_input_ids": random_ids(2, 7, seed=2)}


TRANSLATION = {"plain": plain_translation, "padded": padded_translation}


def picture_inputs(size: int = 32) -> dict[str, Callable[[], Inputs]]:
    """Two pictures for a vision tower on its own."""
    return {"plain": lambda: {"pixel_values": pictures(size=size)}}


PICTURES = picture_inputs()


def plain_pairs() -> Inputs:
    """Texts and pictures, for the towers of a CLIP."""
    return plain_tokens(2, 8) | {"pixel_values": pictures()}


def padded_pairs() -> Inputs:
    """As `plain_pairs`; the second text has three positions of padding on its right."""
    return padded_tokens("right", 2, 8) | {"pixel_values": pictures()}


PAIRS = {"plain": plain_pairs, "padded": padded_pairs}


def prompt_ids(image_tokens: int, *, padding: int = 0) -> Inputs:
    """One prompt: left padding, a first token, the placeholders of one image, eight tokens of text."""
    parts = [
        torch.zeros(1, padding, dtype=torch.long),
        torch.ones(1, 1, dtype=torch.long),
        torch.full((1, image_tokens), IMAGE_TOKEN),
        random_ids(1, 8),
    ]
    ids = torch.cat(parts, dim=1)
    mask = torch.ones_like(ids)
    mask[:, :padding] = 0
    return {"input_ids": ids, "attention_mask": mask}


def image_prompts(
    image_tokens: int, complete: Callable[[Inputs], Inputs] | None = None
) -> dict[str, Callable[[], Inputs]]:
    """A prompt with one picture, plain and left-padded; `complete` adds what else the architecture needs."""

    def make(padding: int) -> Inputs:
        inputs = prompt_ids(image_tokens, padding=padding)
        inputs["pixel_values"] = pictures(1)
        return inputs if complete is None else inputs | complete(inputs)

    return {"plain": lambda: make(0), "padded": lambda: make(PADDED)}
