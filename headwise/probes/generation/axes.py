"""Axes of a generation as it grows: lengthened, marked as generated, cut."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headwise.layout import ROLES, Axis
from headwise.layout.roles import mark_first

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


def behind_cached(axis: Axis, past: int, mask: Tensor | None) -> Axis:
    """The last positions of an axis behind `past` cached ones; `mask` tells which of those are padding."""
    before = torch.full((len(axis.roles), past), _CACHED, dtype=torch.uint8)
    if mask is not None and mask.dim() == 2 and mask.shape[1] >= past:
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
