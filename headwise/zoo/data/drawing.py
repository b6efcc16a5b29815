"""Pixels of the drawn scenes: the shapes as stencils, the colors, and the noise of a bad camera."""

from __future__ import annotations

from functools import cache

import numpy as np

SIZE = 48
"""Side of a picture in pixels."""
GRID = 3
"""Cells per side; a cell is 16 pixels wide."""
STENCIL = 14
"""Side of a shape in pixels; it leaves two pixels of play in its cell."""
BACKGROUND = (245, 245, 245)
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring", "heart", "moon")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 50),
    "purple": (150, 60, 180),
    "orange": (240, 140, 40),
}

_STAR = ((6.5, 0), (8, 5), (13, 6), (9, 9), (11, 13), (6.5, 10), (2, 13), (4, 9), (0, 6), (5, 5))


@cache
def stencil(shape: str) -> np.ndarray:
    """The pixels that a shape covers: booleans of shape (14, 14), without soft edges, not writable.

    Example:
        >>> int(stencil("square").sum())
        196
    """
    from PIL import Image, ImageDraw

    image = Image.new("1", (STENCIL, STENCIL), 0)
    pen = ImageDraw.Draw(image)
    last = STENCIL - 1
    match shape:
        case "circle":
            pen.ellipse((0, 0, last, last), fill=1)
        case "square":
            pen.rectangle((0, 0, last, last), fill=1)
        case "triangle":
            pen.polygon(((0, last), (last, last), (last / 2, 0)), fill=1)
        case "cross":
            pen.rectangle((5, 0, 8, last), fill=1)
            pen.rectangle((0, 5, last, 8), fill=1)
        case "star":
            pen.polygon(_STAR, fill=1)
        case "ring":
            pen.ellipse((0, 0, last, last), outline=1, width=3)
        case "heart":
            pen.ellipse((0, 0, 7, 7), fill=1)
            pen.ellipse((6, 0, last, 7), fill=1)
            pen.polygon(((0, 5), (last, 5), (last / 2, last)), fill=1)
        case "moon":
            pen.ellipse((0, 0, last, last), fill=1)
            pen.ellipse((5, -1, last + 3, last - 2), fill=0)
        case _:
            raise KeyError(shape)
    covered = np.asarray(image, dtype=bool).copy()
    covered.flags.writeable = False
    return covered


def noisy(pixels: np.ndarray, *, noise: float, seed: int) -> np.ndarray:
    """Add normal noise and store the result in 8 bits, as a camera would.

    The noise of one picture has one standard deviation, drawn uniformly from 0 to `noise`. It is counted on a
    scale where black is -1 and white is 1; what leaves that range is cut off. With `noise=0` nothing changes.

    Args:
        pixels: 8-bit channel values of any shape.
        noise: largest standard deviation, 0 or more.
        seed: of the strength and of the noise; equal seeds give equal pixels.
    """
    numbers = np.random.default_rng(seed)
    strength = noise * numbers.random()
    values = (
        pixels.astype(np.float32) / 127.5 - 1 + strength * numbers.standard_normal(pixels.shape, np.float32)
    )
    return np.rint((values.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
