"""Axes of a generation: from the arguments of a forward and of the `generate` around it; lengthened, marked, cut.

`generate` hands the forward what it has made of its arguments: images as features without their grids, a prompt as
embeddings, every example once per beam. What the user gave tells what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.layout import ROLES, Axis, describe
from headwise.layout.roles import mark_first

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.generation.generate_call import GenerateCall


PADDING = ROLES.index("padding")
GENERATED = ROLES.index("generated")
_CACHED = ROLES.index("cached")


def lengthened(axis: Axis, chunk: Axis | None, new: int, padding: Tensor | None) -> Axis:
    """The axis with `new` positions more, of which `chunk` tells the roles; generated ones when it is None."""
    if chunk is not None and len(chunk.roles) != len(axis.roles):
        chunk = None
    if chunk is None:
        chunk = Axis(axis.tower, torch.full((len(axis.roles), new), GENERATED, dtype=torch.uint8))
        if padding is not None:
            chunk.roles[padding.cpu()] = PADDING
    known = axis.ids is not None and chunk.ids is not None
    ids = torch.cat([axis.ids, chunk.ids], 1) if known else None  # type: ignore[list-item]
    begun = axis.valid.any(-1, keepdim=True)  # what came before may be padding alone
    roles = torch.where(begun, chunk.roles, mark_first(chunk.roles))
    return replace(axis, roles=torch.cat([axis.roles, roles], 1), ids=ids, tokens=None)


def behind_cached(axis: Axis, past: int, mask: Any) -> Axis:
    """The last positions of an axis behind `past` cached ones; `mask` tells which of those are padding."""
    before = torch.full((len(axis.roles), past), _CACHED, dtype=torch.uint8)
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] >= past:
        before[mask[:, :past].cpu() == 0] = PADDING
    return Axis(axis.tower, torch.cat([before, axis.roles], dim=1))


def with_generated(axis: Axis, prompt: int, fed: int, ends_at: Tensor | None) -> Axis:
    """The axis of a sequence that was read again whole, with what is behind the prompt as generated.

    Args:
        axis: of the whole sequence.
        prompt: positions of the prompt.
        fed: ids of the sequence.
        ends_at: place, among the ids, where each example has ended; what is behind it is padding.
    """
    length, roles = axis.roles.shape[1], axis.roles.clone()
    tail = roles[:, prompt:]
    tail[tail != PADDING] = GENERATED
    if ends_at is not None:
        positions = torch.arange(prompt, length) - (length - fed)
        tail[positions >= ends_at.cpu()[:, None]] = PADDING
    return replace(axis, roles=roles)


def shortened(axis: Axis, length: int) -> Axis:
    """The axis up to `length` positions."""
    if axis.roles.shape[1] <= length:
        return axis
    ids = None if axis.ids is None else axis.ids[:, :length]
    images = tuple(span for span in axis.images if span.start + span.length <= length)
    return replace(axis, roles=axis.roles[:, :length], ids=ids, images=images, tokens=None)


def generate_axes(model: PreTrainedModel, processor: Any, call: GenerateCall) -> Mapping[str, Axis]:
    """The axes of every tower by the arguments of a call of `generate`."""
    arguments = dict(call.outermost.arguments)
    inputs = arguments.pop("inputs", None)
    if isinstance(inputs, Tensor):
        arguments.setdefault(model.main_input_name, inputs)
    return describe(model, processor, arguments).axes


def of_recordings(axes: Mapping[str, Axis], language: str) -> dict[str, Axis]:
    """The axes of a run whose text is of the windows that its encoder heard."""
    source, text = axes.get("encoder"), axes.get(language)
    if source is None or source.recording is None or text is None or text is source:
        return dict(axes)
    copies, rest = divmod(len(text.roles), len(source.roles))
    if rest:
        return dict(axes)
    wide = source.repeat(copies)
    return {**axes, language: replace(text, offset=wide.offset, recording=wide.recording)}


def completed(own: Mapping[str, Axis], of_call: Mapping[str, Axis], language: str) -> dict[str, Axis]:
    """The axes of a forward, with what `generate` was given where the forward no longer tells.

    Args:
        own: axes by the arguments of the forward.
        of_call: axes by the arguments of `generate`, one example per prompt.
        language: the tower whose examples are copied for beams.
    """
    axes = dict(own)
    for tower, axis in of_call.items():
        own_axis = own.get(tower)
        if own_axis is None:
            axes[tower] = axis
        elif tower == language or own_axis.ids is not None:
            axes[tower] = _pictured(own_axis, axis)
        elif not own_axis.images and own_axis.roles.shape == axis.roles.shape:
            axes[tower] = axis
    return axes


def _pictured(own_axis: Axis, of_call: Axis) -> Axis:
    """The axis of a text with the images that `generate` was given, where it begins with the same prompt, perhaps
    copied.
    """
    copies, rest = divmod(len(own_axis.roles), len(of_call.roles))
    length = of_call.roles.shape[1]
    if rest or own_axis.roles.shape[1] < length:
        return own_axis
    wide = of_call.repeat(copies)
    if own_axis.ids is None:
        return wide if own_axis.roles.shape[1] == length else own_axis
    if wide.ids is None or not torch.equal(own_axis.ids[:, :length], wide.ids):
        return own_axis
    return replace(own_axis, images=wide.images)


def new_axes(described: Mapping[str, Axis], known: Mapping[str, Axis]) -> dict[str, Axis]:
    """Axes of a call that its run does not know better: `generate` hands the decoder outputs of the encoder, and
    what is behind them was seen when the encoder ran.
    """
    return {tower: axis for tower, axis in described.items() if not _known(known.get(tower), axis)}


def _known(before: Axis | None, axis: Axis) -> bool:
    if before is None or axis.ids is not None:
        return False
    same = before.roles.shape[1] == axis.roles.shape[1]
    return same and len(axis.roles) % len(before.roles) == 0  # beams are copies of an example
