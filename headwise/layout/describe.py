"""Build the `TokenLayout` of a call from the arguments of the model's forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.families import family_of
from headwise.layout.audio import audio_axis, position_seconds
from headwise.layout.axes import ROLES, Axis, TokenLayout, generic_axis
from headwise.layout.roles import Vocabulary, mark_first, token_texts, tokenizer_of
from headwise.layout.vision import (
    default_unit,
    image_spans,
    image_units,
    packed_axis,
    patch_grid,
    qformer_axis,
    vision_axis,
    vision_config,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe(
    model: PreTrainedModel, processor: Any, inputs: Mapping[str, Any], *, past: int = 0
) -> TokenLayout:
    """What every position of a call is, for each tower that the inputs tell something about.

    Args:
        model: the model that is called.
        processor: its processor or tokenizer; None for a bare model, whose config then names the special ids.
        inputs: arguments of the model's forward by name. Names that say nothing about positions are ignored.
        past: how many positions the ids continue.

    Returns:
        The layout, without token texts (`with_tokens` adds them). A tower that cannot be described is absent.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> sizes = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=9, **sizes))
        >>> layout = describe(model, None, {"input_ids": torch.tensor([[1, 5, 2]])})
        >>> [ROLES[role] for role in layout.axes["text"].roles[0]]
        ['bos', 'content', 'eos']
    """
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    states = getattr(inputs.get("encoder_outputs"), "last_hidden_state", None)
    config = model.config
    axes = []
    if getattr(config, "is_encoder_decoder", False):
        axes.append(_source_axis(model, processor, tensors, states))
        axes.append(_word_axis(model, processor, tensors, "decoder", "decoder_", past))
    elif model.main_input_name in ("input_values", "input_features"):
        axes.append(audio_axis(model, processor, tensors))
    else:
        axes.append(_word_axis(model, processor, tensors, "text", "", past))
    axes.append(vision_axis(model, tensors.get("pixel_values")) or packed_axis(model, tensors))
    axes.append(qformer_axis(config, tensors))
    return TokenLayout({axis.tower: axis for axis in axes if axis is not None})


def with_tokens(layout: TokenLayout, processor: Any) -> TokenLayout:
    """The layout with the text of every position, or its id where there is no tokenizer."""
    tokenizer = tokenizer_of(processor)
    return TokenLayout({tower: _with_tokens(axis, tokenizer) for tower, axis in layout.axes.items()})


def _with_tokens(axis: Axis, tokenizer: Any) -> Axis:
    if axis.ids is None or axis.tokens is not None:
        return axis
    unique = axis.ids.unique().tolist()
    texts = dict(zip(unique, token_texts(tokenizer, unique), strict=True))
    rows = axis.ids.tolist()
    return replace(axis, tokens=tuple(tuple(_shown(texts[i], i) for i in row) for row in rows))


def _shown(text: str | None, token: int) -> str:
    if token < 0:  # a position that is no token, such as GIT's image features
        return ""
    return str(token) if text is None else text


def _source_axis(
    model: PreTrainedModel, processor: Any, tensors: Mapping[str, Tensor], states: Tensor | None
) -> Axis | None:
    """The encoder of an encoder-decoder model: words, sound, or states that were computed before."""
    if "input_ids" in tensors or "inputs_embeds" in tensors:
        return _word_axis(model, processor, tensors, "encoder", "")
    axis = audio_axis(model, processor, tensors)
    if axis is not None or states is None or model.main_input_name == "pixel_values":
        return axis
    examples, positions = states.shape[:2]
    sound = model.main_input_name in ("input_values", "input_features")
    valid = None if sound else _valid(tensors.get("attention_mask"), (examples, positions))
    axis = generic_axis("encoder", examples, positions, valid, sound=sound)
    return replace(axis, seconds=position_seconds(model, processor, positions)) if sound else axis


def _word_axis(
    model: PreTrainedModel,
    processor: Any,
    tensors: Mapping[str, Tensor],
    tower: str,
    prefix: str,
    past: int = 0,
) -> Axis | None:
    """An axis of token ids, or of embeddings where there are no ids."""
    ids = tensors.get(f"{prefix}input_ids")
    embeddings = tensors.get(f"{prefix}inputs_embeds")
    mask = tensors.get(f"{prefix}attention_mask")
    if ids is None or ids.ndim != 2:
        if embeddings is None:
            return None
        size = (embeddings.shape[0], embeddings.shape[1])
        return _begun(generic_axis(tower, *size, _valid(mask, size)), mask, past)
    ids = ids.detach().cpu()
    vocabulary = Vocabulary.of(model, processor)
    valid = _valid(mask, (ids.shape[0], ids.shape[1]))
    roles = vocabulary.roles(ids, valid, decoder=tower == "decoder")
    axis = _begun(Axis(tower, roles, ids=ids), mask, past)
    if tower != "text":
        return axis
    if family_of(model.config).image_first:
        return _behind_image(model, axis, tensors.get("pixel_values"))
    return _with_images(model, axis, vocabulary, tensors)


def _begun(axis: Axis, mask: Tensor | None, past: int) -> Axis:
    """The axis with its first token marked, where it is read from its beginning on and does not continue a cache."""
    longer = mask is not None and mask.ndim == 2 and mask.shape[1] > axis.roles.shape[1]
    if past or longer or axis.tower == "encoder":
        return axis
    return replace(axis, roles=mark_first(axis.roles))


def _with_images(
    model: PreTrainedModel, axis: Axis, vocabulary: Vocabulary, tensors: Mapping[str, Tensor]
) -> Axis:
    is_image = axis.roles == ROLES.index("image")
    if not is_image.any() or axis.ids is None:
        return axis
    config = model.config
    if family_of(vision_config(config)).image_rows:
        return axis
    same_size = "image_sizes" not in tensors
    default = default_unit(config, tensors.get("pixel_values")) if same_size else None
    films = torch.isin(axis.ids, torch.tensor(sorted(vocabulary.video), dtype=axis.ids.dtype)) & is_image
    images = image_spans(is_image & ~films, image_units(config, tensors.get("image_grid_thw")), default)
    if films.any():
        images += image_spans(films, image_units(config, tensors.get("video_grid_thw")), None)
    return replace(axis, images=images)


def _behind_image(model: PreTrainedModel, axis: Axis, pixels: Tensor | None) -> Axis:
    """The axis of a model that puts image features, class token first, before the text."""
    grid = None if pixels is None else patch_grid(vision_config(model.config), pixels)
    tower = vision_axis(model, pixels)
    if grid is None or tower is None or axis.ids is None or len(tower.roles) != len(axis.roles):
        return axis
    front = tower.roles.shape[1] - prod(grid)
    return replace(
        axis,
        roles=torch.cat([tower.roles, axis.roles], dim=1),
        ids=torch.nn.functional.pad(axis.ids, (tower.roles.shape[1], 0), value=-1),
        images=tuple(replace(span, start=front) for span in tower.images),
    )


def _valid(mask: Tensor | None, size: tuple[int, int]) -> Tensor:
    """True where a 2-D mask, if there is one, lets the model see a position; its last columns count."""
    if mask is None or mask.ndim != 2 or mask.shape[0] != size[0] or mask.shape[1] < size[1]:
        return torch.ones(size, dtype=torch.bool)
    return mask[:, -size[1] :].detach().cpu() != 0
