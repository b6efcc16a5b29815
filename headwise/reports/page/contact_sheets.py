"""Contact sheets: the patterns of all heads in one small picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from headwise.figures import map_png

SIDE = 24
"""Pixels a side of a pattern among all others."""


def sheet_png(patterns: UInt8[np.ndarray, "layer head row key"], *, side: int = SIDE) -> bytes:
    r"""The patterns of all heads in one PNG, layers down and heads across, a pixel of space between them.

    Args:
        patterns: 255 √weight.
        side: pixels a side of one pattern, at most; larger ones are pooled by their maximum.

    Example:
        >>> sheet_png(np.zeros((2, 4, 9, 9), dtype=np.uint8))[:4]
        b'\x89PNG'
    """
    layers, heads, rows, keys = patterns.shape
    step = max(-(-rows // side), -(-keys // side))
    tall, wide = -(-rows // step), -(-keys // step)
    padded = np.zeros((layers, heads, tall * step, wide * step), dtype=np.uint8)
    padded[:, :, :rows, :keys] = patterns
    small = padded.reshape(layers, heads, tall, step, wide, step).max((3, 5))
    sheet = np.full((layers, tall + 1, heads, wide + 1), np.nan)
    sheet[:, :tall, :, :wide] = small.transpose(0, 2, 1, 3)
    whole = sheet.reshape(layers * (tall + 1), heads * (wide + 1))
    return map_png(whole, 0, 255, cell=1 if max(whole.shape) > 400 else 2, missing=None)
