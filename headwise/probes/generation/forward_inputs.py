"""Inputs of a forward, brought to one form: arguments by name, ids behind embeddings, masks by position."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from headwise.probes.generation.caches import cache_among
from headwise.probes.kernels.call import lets_see

if TYPE_CHECKING:
    from headwise.probes.generation.generate_call import GenerateCall

_IDS = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")


def bind(module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a forward by name."""
    if not args:
        return dict(kwargs)
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def batch_of(inputs: Mapping[str, Any]) -> int:
    """Examples of a forward: those of its ids or embeddings."""
    named = (inputs.get(name) for name in _IDS)
    return len(next(value for value in (*named, *inputs.values()) if isinstance(value, Tensor)))


def with_ids(inputs: dict[str, Any], embedded: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    """Inputs with the ids that their embeddings were made from, where those are known: (ids, embeddings).

    Some models (BLIP-2, InstructBLIP) embed a prompt, put the image in place of one token, and hand embeddings
    alone to their language model.
    """
    embeddings = inputs.get("inputs_embeds")
    if embedded is None or embeddings is None or inputs.get("input_ids") is not None:
        return inputs
    ids, source = embedded
    copies, rest = divmod(len(embeddings), len(source))
    if embeddings.shape[1:] != source.shape[1:] or rest:
        return inputs
    same = (embeddings == source.repeat_interleave(copies, 0)).all(-1)
    ids = ids.repeat_interleave(copies, 0)
    if ids[~same].unique().numel() > 1 or not bool(same.any()):
        return inputs
    return {**inputs, "input_ids": ids}


def with_decoder_ids(module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs with the decoder's ids where a model makes them itself, from labels, by its own rule."""
    labels = inputs.get("labels")
    if labels is None:
        return inputs
    config = getattr(module, "config", None)
    begun = any(inputs.get(name) is not None for name in ("decoder_input_ids", "decoder_inputs_embeds"))
    if begun or not isinstance(labels, Tensor) or not getattr(config, "is_encoder_decoder", False):
        return inputs
    if "labels" not in inspect.signature(type(module).forward).parameters:
        return inputs  # the encoder of `generate`, which hands them on
    own = getattr(module, "prepare_decoder_input_ids_from_labels", None)
    rule = own or getattr(sys.modules[type(module).__module__], "shift_tokens_right", None)
    if rule is None:
        return inputs
    names = list(inspect.signature(rule).parameters)[1:]
    tokens = ("pad_token_id", "decoder_start_token_id")
    more = {name: getattr(config, name, None) for name in names if name in tokens}
    return {**inputs, "decoder_input_ids": rule(labels, **more)}


def lacks_positions(inputs: Mapping[str, Any]) -> bool:
    """True for a prompt with padding on the left of a row that comes without positions."""
    mask = inputs.get("attention_mask")
    words = any(inputs.get(name) is not None for name in ("input_ids", "inputs_embeds"))
    if not words or inputs.get("position_ids") is not None or not isinstance(mask, Tensor) or mask.dim() != 2:
        return False
    return bool((mask[:, 0] == 0).any())


def with_flat_masks(inputs: dict[str, Any], past: int) -> dict[str, Any]:
    """Inputs whose masks say of every position so far whether it is real: (batch, position).

    With a static cache `generate` hands over what it has made of the mask: (batch, 1, query, slot) or one such mask per
    kind of layer. A position is real when some row sees it. A mask of two axes may be wider than the sequence, made
    once for all that is to come. `past` positions are cached.
    """
    flat = {}
    if inputs.get("attention_mask") is None and inputs.get("decoder_attention_mask") is None:
        return inputs
    decodes = any(isinstance(inputs.get(name), Tensor) for name in _IDS[2:])
    for name, of in (("attention_mask", "input"), ("decoder_attention_mask", "decoder_input")):
        mask = inputs.get(name)
        if isinstance(mask, Mapping):
            mask = mask.get("full_attention", next(iter(mask.values()), None))
            flat[name] = None
        if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
            continue
        words = (inputs.get(f"{of}_ids"), inputs.get(f"{of}s_embeds"))
        rows = next((value for value in words if isinstance(value, Tensor)), None)
        behind = 0 if decodes and of == "input" else past  # the cache is the decoder's
        if mask.dim() == 4:
            mask = lets_see(mask).any(1).any(1).long()
            mask = mask if rows is None else mask.expand(len(rows), -1)
        flat[name] = mask if rows is None else mask[:, : behind + rows.shape[1]]
    return {**inputs, **flat}


def ids_of(inputs: Mapping[str, Any], primary: str) -> Tensor | None:
    """Token ids of the words of a tower; None where embeddings were given."""
    value = inputs.get("decoder_input_ids") if primary == "decoder" else None
    return inputs.get("input_ids") if value is None else value


def words_of(inputs: Mapping[str, Any], primary: str) -> tuple[int, int]:
    """Examples and words of a tower, as ids or embeddings; (0, 0) where there are none."""
    names = (*_IDS[2:], *_IDS[:2]) if primary == "decoder" else _IDS[:2]
    words = next((value for value in map(inputs.get, names) if isinstance(value, Tensor)), None)
    return (0, 0) if words is None else (words.shape[0], words.shape[1])


def drafts_of(
    inputs: Mapping[str, Any],
    ids: Tensor | None,
    length: int,
    new: int,
    call: GenerateCall | None,
    *,
    opens: bool,
) -> int:
    """Number of drafts, which may be rolled back, among the last positions; there are `length` in all.

    An assisted loop feeds the last token that it has accepted and its drafts behind it. A model that drafts for itself
    is rolled back to the last but one token that was accepted. Outside of `generate`, a call that asks for the logits
    of several last tokens of a cached sequence checks drafts.
    """
    loop = None if call is None else call.loop
    if loop is not None and loop.accepted is not None:
        if not opens:
            return new - 1
        return 0 if ids is None else max(0, ids.shape[1] - loop.accepted)
    if call is not None and call.accepted is not None:
        return max(0, length - (call.accepted - 1))
    asked = inputs.get("logits_to_keep")
    if cache_among(inputs.values()) is not None and isinstance(asked, int) and 1 < asked <= new:
        return asked - 1
    return 0


def padding_of(inputs: Mapping[str, Any], primary: str, new: int) -> Tensor | None:
    """True where the mask says that one of the last words is padding; None without such a mask."""
    mask = inputs.get("decoder_attention_mask" if primary == "decoder" else "attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < new:
        return None
    return mask[:, -new:] == 0


def extends(ids: Any, before: Any) -> bool:
    """True when every row of ids begins with a row of what came before: beams may have changed places."""
    if not isinstance(ids, Tensor) or not isinstance(before, Tensor) or ids.shape[0] != before.shape[0]:
        return False
    length = before.shape[1]
    if ids.shape[1] <= length:
        return False
    return bool((ids[:, None, :length] == before).all(-1).any(-1).all())
