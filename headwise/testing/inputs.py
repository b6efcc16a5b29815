"""Two short prompts for the tiny models, alone and as a batch, and what a model makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.testing.models import IMAGE_TOKEN, TINY_MODELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = dict[str, Tensor]
PADDED = 3
"""How many positions of the padded example are padding."""
LONG, SHORT = 12, 12 - PADDED
PATCHES = 16
NEW = 4


def random_ids(batch: int, length: int, *, seed: int = 1) -> Tensor:
    """(batch, length) token ids in 5 … 94: no special token and no image token among them."""
    return torch.randint(5, 95, (batch, length), generator=torch.Generator().manual_seed(seed))


def random_normal(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(batch: int = 2, size: int = 32) -> Tensor:
    """Pixel values of square pictures."""
    return random_normal(batch, 3, size, size)


def alone(example: int, model: str = "") -> Inputs:
    """One of two texts, without padding; behind an image for a model that sees."""
    return _with_image(random_ids(1, (LONG, SHORT)[example], seed=20 + example), model, example)


def together(side: str, model: str = "") -> Inputs:
    """Both texts in a batch; the second has padding on one side."""
    texts = [alone(example, model) for example in (0, 1)]
    room = (PADDED, 0) if side == "left" else (0, PADDED)
    batch = {}
    for name in texts[0]:
        second = texts[1][name]
        second = second if name == "pixel_values" else torch.nn.functional.pad(second, room)
        batch[name] = torch.cat([texts[0][name], second])
    lengths = [text["input_ids"].shape[1] for text in texts]
    real = torch.nn.functional.pad(torch.ones(1, lengths[1], dtype=torch.long), room)
    return batch | {"attention_mask": torch.cat([torch.ones(1, lengths[0], dtype=torch.long), real])}


def equal_length_pair(model: str = "") -> Inputs:
    """Two texts of one length; behind an image each for a model that sees."""
    ids = random_ids(2, LONG, seed=22)
    parts = [_with_image(ids[example : example + 1], model, example) for example in (0, 1)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def example_of(inputs: Inputs, example: int) -> Inputs:
    """One example of a batch."""
    return {name: value[example : example + 1] for name, value in inputs.items()}


def _with_image(ids: Tensor, model: str, example: int) -> Inputs:
    inputs: Inputs = {}
    if model in TINY_MODELS and TINY_MODELS[model].has_vision:
        image = torch.full((1, PATCHES), IMAGE_TOKEN)
        ids = torch.cat([torch.ones(1, 1, dtype=torch.long), image, ids], 1)
        inputs["pixel_values"] = pictures(2)[example : example + 1]
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None]} | inputs


def forward(model: PreTrainedModel, inputs: Inputs, **options: Any) -> Any:
    """One forward without gradients, from a fixed random state (ViTMAE draws what it masks)."""
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        return model(**inputs, return_dict=True, **options)


def first(output: Any) -> Tensor:
    """The logits, or the last hidden state of a model without a head."""
    return output.logits if output.get("logits") is not None else output[0]


def decode(
    model: PreTrainedModel, inputs: Inputs, *, use_cache: bool, **options: Any
) -> tuple[Tensor, Tensor]:
    """Tokens and logits of greedy decoding, or of `generate` with other options."""
    generate: Any = model.generate
    output = generate(
        **{name: value for name, value in inputs.items() if name in ("input_ids", "pixel_values")},
        do_sample=False,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        pad_token_id=0,
        use_cache=use_cache,
        **options,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences, torch.stack(output.logits, dim=1)
