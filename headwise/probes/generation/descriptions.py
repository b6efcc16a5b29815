"""Axes of a forward: from its own arguments, and from those of the `generate` around it.

`generate` hands the forward what it has made of its arguments: images as features without their grids, a prompt as
embeddings, every example once per beam. What the user gave tells what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.layout import Axis, describe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.generation.generate_call import GenerateCall


def axes_given(model: PreTrainedModel, processor: Any, call: GenerateCall) -> Mapping[str, Axis]:
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


def completed(own: Mapping[str, Axis], given: Mapping[str, Axis], language: str) -> dict[str, Axis]:
    """The axes of a forward, with what `generate` was given where the forward no longer tells.

    Args:
        own: axes by the arguments of the forward.
        given: axes by the arguments of `generate`, one example per prompt.
        language: the tower whose examples are copied for beams.
    """
    axes = dict(own)
    for tower, axis in given.items():
        mine = own.get(tower)
        if mine is None:
            axes[tower] = axis
        elif tower == language or mine.ids is not None:
            axes[tower] = _pictured(mine, axis)
        elif not mine.images and mine.roles.shape == axis.roles.shape:
            axes[tower] = axis
    return axes


def _pictured(mine: Axis, given: Axis) -> Axis:
    """The axis of a text with the images that `generate` was given, where it begins with the same prompt, perhaps
    copied.
    """
    copies, rest = divmod(len(mine.roles), len(given.roles))
    length = given.roles.shape[1]
    if rest or mine.roles.shape[1] < length:
        return mine
    wide = given.repeat(copies)
    if mine.ids is None:
        return wide if mine.roles.shape[1] == length else mine
    if wide.ids is None or not torch.equal(mine.ids[:, :length], wide.ids):
        return mine
    return replace(mine, images=wide.images)


def news(described: Mapping[str, Axis], known: Mapping[str, Axis]) -> dict[str, Axis]:
    """Axes of a call that its run does not know better: `generate` hands the decoder outputs of the encoder, and
    what is behind them was seen when the encoder ran.
    """
    return {tower: axis for tower, axis in described.items() if not _known(known.get(tower), axis)}


def _known(before: Axis | None, axis: Axis) -> bool:
    if before is None or axis.ids is not None:
        return False
    same = before.roles.shape[1] == axis.roles.shape[1]
    return same and len(axis.roles) % len(before.roles) == 0  # beams are copies of an example
