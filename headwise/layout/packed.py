"""Where images lie in a tower that packs the patches of all of them into one row, in an order of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.layout.axes import ROLES, Axis, ImageSpan
from headwise.layout.vision import vision_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KINDS = (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw"))


def packed_axis(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Axis | None:
    """Positions of a vision tower that is handed the patches of all images in a row, and their grids.

    The row is one example. Patches that will be merged stand side by side, and those of a window where the tower works
    in windows; `ImageSpan.places` tells where each belongs. None where pictures and films are read one after the other.
    """
    given = [(inputs[pixels], inputs[grid]) for pixels, grid in _KINDS if pixels in inputs and grid in inputs]
    if len(given) != 1:
        return None
    pixels, grids = given[0]
    vision = vision_config(model.config)
    merge = getattr(vision, "spatial_merge_size", None)
    if not isinstance(merge, int) or pixels.ndim != 2 or int(grids.prod(-1).sum()) != len(pixels):
        return None
    order = _order(vision, merge, grids.cpu())
    spans, start = [], 0
    for frames, height, width in grids.tolist():
        for _ in range(frames):
            size = height * width
            row, column = order[start : start + size].unbind(1)
            places = tuple((row * width + column).tolist())
            spans.append(ImageSpan(0, len(spans), start, size, (height, width), places))
            start += size
    roles = torch.full((1, start), ROLES.index("image"), dtype=torch.uint8)
    return Axis("vision", roles, images=tuple(spans))


def _order(vision: Any, merge: int, grids: Tensor) -> Tensor:
    """Row and column of every patch, in the order of the tower."""
    from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

    order = get_vision_position_ids(grids, merge)
    if not getattr(vision, "window_size", None) or not isinstance(vision.patch_size, int):
        return order
    windows, _ = get_vision_window_index(grids, merge, vision.window_size, vision.patch_size)
    return order.reshape(-1, merge**2, 2)[windows].reshape(-1, 2)
