"""Images: spans and grids among text tokens, patches of a vision tower (plain or packed), queries of a Q-Former."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from headwise.families import family_of
from headwise.layout.axes import ROLES, Axis, ImageSpan

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Unit = tuple[int, tuple[int, int] | None]
"""Number of tokens of an image, and its grid."""

_FRONT = ("cls_token", "class_embedding", "class_token", "distillation_token", "register_tokens")
_HIERARCHICAL = ("depths", "hidden_sizes", "mask_ratio", "max_num_tiles", "num_detection_tokens")


def image_spans(
    is_image: Bool[Tensor, "example position"], units: Iterator[Unit] | None, default: Unit | None
) -> tuple[ImageSpan, ...]:
    """The images among text positions.

    Args:
        is_image: True where a position holds an image.
        units: the images of the batch in order, where the processor told their sizes.
        default: size and grid of every image, where they are all alike.

    Returns:
        One span per image. Adjacent images are told apart by their sizes; a run that the sizes do not explain
        stays one span without grid.
    """
    spans, count = [], Counter()
    for example, start, length in _runs(is_image):
        for size, grid in _split(length, units, default):
            spans.append(ImageSpan(example, count[example], start, size, grid))
            count[example] += 1
            start += size
    return tuple(spans)


def image_units(config: Any, grid_thw: Tensor | None) -> Iterator[Unit] | None:
    """Sizes of the images of a batch, from the grid that Qwen-like processors hand over."""
    if grid_thw is None:
        return None
    merge = getattr(vision_config(config), "spatial_merge_size", 1)
    grids = [(h // merge, w // merge) for t, h, w in grid_thw.tolist() for _ in range(t)]
    return iter([(prod(grid), grid) for grid in grids])


def default_unit(config: Any, pixels: Tensor | None) -> Unit | None:
    """Size and grid of an image for models whose images are all alike; None where that is not known."""
    if getattr(config, "num_query_tokens", None) and hasattr(config, "qformer_config"):
        return config.num_query_tokens, None
    grid_of = family_of(config).image_grid
    grid = _merged(config, patch_grid(vision_config(config), pixels)) if grid_of is None else grid_of(config)
    return None if grid is None else (prod(grid), grid)


def patch_grid(vision: Any, pixels: Tensor | None) -> tuple[int, int] | None:
    """Rows and columns of patches: from the pixels at hand, else from the image size of the config."""
    patch = _pair(getattr(vision, "patch_size", None))
    size = (
        tuple(pixels.shape[-2:])
        if pixels is not None and pixels.ndim >= 4
        else _pair(getattr(vision, "image_size", None))
    )
    if patch is None or size is None:
        return None
    return size[0] // patch[0], size[1] // patch[1]


def vision_axis(model: PreTrainedModel, pixels: Tensor | None) -> Axis | None:
    """Positions of a plain vision tower: class and register tokens, then the patches in raster order.

    None for towers whose positions are not patches of one image (windows, tiles, packed patches).
    """
    vision = vision_config(model.config)
    if pixels is None or pixels.ndim < 4 or any(getattr(vision, name, None) for name in _HIERARCHICAL):
        return None
    grid = patch_grid(vision, pixels)
    front = _front_tokens(model, vision)
    if grid is None or front is None:
        return None
    images, patches = prod(pixels.shape[:-3]), prod(grid)
    roles = torch.full((images, front + patches), ROLES.index("image"), dtype=torch.uint8)
    roles[:, :front] = ROLES.index("special")
    return Axis("vision", roles, images=tuple(ImageSpan(i, 0, front, patches, grid) for i in range(images)))


def qformer_axis(config: Any, inputs: Mapping[str, Tensor]) -> Axis | None:
    """Query tokens of a Q-Former, then the instruction it reads, if any."""
    queries = getattr(config, "num_query_tokens", None)
    pixels = inputs.get("pixel_values")
    if not queries or pixels is None or not hasattr(config, "qformer_config"):
        return None
    images = len(pixels)
    roles = torch.full((images, queries), ROLES.index("image"), dtype=torch.uint8)
    ids = inputs.get("qformer_input_ids")
    if ids is not None and len(ids) == images:
        words = torch.full(ids.shape, ROLES.index("content"), dtype=torch.uint8)
        mask = inputs.get("qformer_attention_mask")
        if mask is not None and mask.shape == ids.shape:
            words[mask.cpu() == 0] = ROLES.index("padding")
        roles = torch.cat([roles, words], dim=1)
    return Axis("qformer", roles, images=tuple(ImageSpan(i, 0, 0, queries) for i in range(images)))


def vision_config(config: Any) -> Any:
    """The config of the vision tower: a part of a larger config, or the config itself."""
    for name in ("vision_config", "vision_tower_config", "vit_config", "encoder"):
        part = getattr(config, name, None)
        if part is not None and not isinstance(part, str | Mapping):
            return part
    return config


def _runs(is_image: Tensor) -> Iterator[tuple[int, int, int]]:
    """(example, start, length) of every run of True."""
    edges = torch.nn.functional.pad(is_image.to(torch.int8), (1, 1)).diff(dim=1)
    starts, ends = (edges == 1).nonzero(), (edges == -1).nonzero()
    for (example, start), (_, end) in zip(starts.tolist(), ends.tolist(), strict=True):
        yield example, start, end - start


def _split(length: int, units: Iterator[Unit] | None, default: Unit | None) -> list[Unit]:
    """The images that make up a run of `length` positions."""
    if units is not None:
        parts, left = [], length
        while left > 0 and (unit := next(units, None)) is not None:
            parts.append(unit)
            left -= unit[0]
        return parts if left == 0 else [(length, None)]
    if default is not None and length % default[0] == 0:
        return [default] * (length // default[0])
    return [(length, None)]


def _merged(config: Any, grid: tuple[int, int] | None) -> tuple[int, int] | None:
    """The grid after a model has merged neighbouring patches, by the factor its config names."""
    if grid is None:
        return None
    for name in ("scale_factor", "downsample_factor", "spatial_merge_size"):
        factor = getattr(config, name, None)
        if isinstance(factor, int) and factor > 1:
            return grid[0] // factor, grid[1] // factor
    for owner in (config, vision_config(config)):
        for name in ("downsample_ratio", "pixel_shuffle_ratio"):
            ratio = getattr(owner, name, None)
            if isinstance(ratio, float):
                return int(grid[0] * ratio), int(grid[1] * ratio)
    return grid


def _front_tokens(model: PreTrainedModel, vision: Any) -> int | None:
    """Number of class, distillation and register tokens before the patches."""
    tower = next((m for m in model.modules() if getattr(m, "config", None) is vision), None)
    if tower is None:
        return None
    leaves = ((name.rsplit(".", 1)[-1], value) for name, value in tower.named_parameters())
    return sum(1 if value.ndim < 2 else value.shape[-2] for leaf, value in leaves if leaf in _FRONT)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None


_KINDS = (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw"))


def packed_axis(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Axis | None:
    """Positions of a vision tower that is handed the patches of all images in a row, and their grids.

    The row is one example. Patches that will be merged stand side by side, and those of a window where the tower works
    in windows; `ImageSpan.places` tells where each belongs. None where pictures and films are read one after the other.
    """
    pairs = [(inputs[pixels], inputs[grid]) for pixels, grid in _KINDS if pixels in inputs and grid in inputs]
    if len(pairs) != 1:
        return None
    pixels, grids = pairs[0]
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
