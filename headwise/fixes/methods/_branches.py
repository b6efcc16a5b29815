"""A prompt beside itself without its image, as one batch.

First half: the prompts as they are. Second half: without their images. With "mask" every input is handed over twice
(`_twice`); with "drop" what is left of ids, and of what has their shape, moves to the right end, filled up on the left,
and positions are counted anew (`_dropped`). Drafts behind the prompt are cut off first (`_prompt`): a branch reads the
prompt alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from headwise.errors import InputError
from headwise.probes.context import PromptContext

Without = Literal["drop", "mask"]


def beside_itself(prompt: PromptContext, without: Without) -> dict[str, Any]:
    """Inputs of twice the batch: the prompts as they are, then the same prompts without their images.

    `"drop"` deletes the image's tokens and special tokens that touch them (text moves up; padded on the left),
    `"mask"` keeps them, for a fix to hide.

    Raises:
        InputError: the model was given embeddings of unknown token ids, or part of the prompt is cached.
    """
    if not isinstance(prompt.inputs.get("input_ids"), Tensor):
        raise InputError(
            "The image can be taken out of token ids only.",
            evidence="the model was given " + ", ".join(sorted(prompt.inputs)),
            remedy="Call the model with input_ids.",
        )
    given = prompt.inputs["input_ids"].shape[1]
    if given < prompt.prompt_length:
        raise InputError(
            "Part of this prompt was in the cache before the fix was installed.",
            evidence=f"{given} of {prompt.prompt_length} positions are at hand",
            remedy="Patch the model before the prompt is read.",
        )
    inputs = {name: _prompt(value, given, prompt.prompt_length) for name, value in prompt.inputs.items()}
    if without == "drop":
        altered = _dropped(prompt, inputs)
    else:
        altered = {name: _twice(name, value) for name, value in inputs.items()}
    if inputs.get("inputs_embeds") is not None:  # the ids are known, and the model wants embeddings
        del altered["input_ids"]
    return altered


def _prompt(value: Any, given: int, prompt: int) -> Any:
    """An input without the drafts of assisted generation that come behind the prompt."""
    if given == prompt or not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if value.shape[-1] == given and not value.is_floating_point():
        return value[..., :prompt]
    return value[:, :prompt] if value.dim() == 3 and value.shape[1] == given else value


def of_the_image(prompt: PromptContext) -> Bool[Tensor, "batch position"]:
    """True on tokens of the image, and on special tokens that touch it directly or through one another."""
    image, special = (prompt.have_role(role, prompt.batch) for role in ("image", "special"))
    grown = image
    while True:
        beside = torch.nn.functional.pad(grown, (1, 1))
        wider = grown | (special & (beside[:, 2:] | beside[:, :-2]))
        if torch.equal(wider, grown):
            return grown
        grown = wider


def _dropped(prompt: PromptContext, inputs: Mapping[str, Any]) -> dict[str, Any]:
    ids: Tensor = inputs["input_ids"]
    batch, length = ids.shape
    mask = inputs.get("attention_mask")
    mask = mask if isinstance(mask, Tensor) and mask.shape == ids.shape else torch.ones_like(ids)
    kept = ~of_the_image(prompt).to(ids.device) & mask.bool()
    # Kept tokens in order at the right end, whatever else at the left.
    order = kept.int().argsort(dim=-1, stable=True)
    left = kept.sum(-1, keepdim=True)
    real = torch.arange(length, device=ids.device) >= length - left
    image = prompt.have_role("image", batch).to(ids.device)
    filler = ids.masked_fill(image, 0).gather(1, (~image).int().argmax(-1, keepdim=True))
    altered: dict[str, Any] = {}
    for name, value in {**inputs, "attention_mask": mask}.items():
        if name == "input_ids":
            altered[name] = torch.cat([ids, torch.where(real, ids.gather(1, order), filler)])
        elif name == "attention_mask":
            altered[name] = torch.cat([mask, real.to(mask.dtype)])
        elif isinstance(value, Tensor) and name.endswith("position_ids") and value.shape[-2:] == ids.shape:
            places = (real.cumsum(-1) - 1).clamp_min(0).to(value.dtype)
            altered[name] = torch.cat([value, places.expand(value.shape)], -2)
        elif isinstance(value, Tensor) and value.shape == ids.shape:
            altered[name] = torch.cat([value, value.gather(1, order) * real])
        elif name == "inputs_embeds" and isinstance(value, Tensor):
            moved = value.gather(1, order[..., None].expand_as(value)) * real[..., None]
            altered[name] = torch.cat([value, moved])
        else:
            altered[name] = value
    return altered


def _twice(name: str, value: Any) -> Any:
    """An input of twice the batch; also features that `generate` has got from the vision tower beforehand."""
    if isinstance(value, Tensor):
        if value.dim() == 0:
            return value
        return torch.cat([value, value], -2 if name.endswith("position_ids") and value.dim() > 2 else 0)
    if isinstance(value, list | tuple) and all(isinstance(item, Tensor) for item in value):
        if "deepstack" in name:  # one tensor per layer; elsewhere one per image
            return type(value)([torch.cat([item, item]) for item in value])
        return type(value)([*value, *value])
    if isinstance(value, list | tuple):
        return type(value)([_twice("", item) for item in value])
    if isinstance(value, dict):
        parts = {key: _twice(key, item) for key, item in value.items()}
        return type(value)(**parts) if type(value) is not dict else parts
    return value
