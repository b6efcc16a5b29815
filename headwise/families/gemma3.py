"""Gemma 3: every image is pooled to the same square of tokens, `mm_tokens_per_image` in all."""

from math import isqrt
from typing import Any

from headwise.families import Family


def _grid(config: Any) -> tuple[int, int]:
    side = isqrt(config.mm_tokens_per_image)
    return side, side


FAMILY = Family(image_grid=_grid)
