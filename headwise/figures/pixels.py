"""Maps as small PNG pictures: for pages, mail and cells that run no scripts."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from headwise.figures.colours import CIVIDIS, MISSING, Colours


def map_png(
    values: NDArray[np.floating],
    low: float,
    high: float,
    *,
    colours: Colours = CIVIDIS,
    cell: int = 8,
    missing: str | None = MISSING,
) -> bytes:
    r"""A grid of numbers as a PNG picture with 255 colours, on a stated scale.

    The picture is never stretched to its own smallest and largest value: what lies outside `low` to `high` takes
    the colour of that end. Where both are the same, everything up to it has the lowest colour.

    Args:
        values: (rows, columns); NaN where there is no value.
        low: what the first colour stands for.
        high: what the last colour stands for.
        colours: the scale.
        cell: pixels per value, both ways.
        missing: the colour of NaN; None leaves it transparent.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: `values` is no grid, is empty, or `low` is not below or at `high`.

    Example:
        >>> map_png(np.array([[0.0, 1.0]]), 0.0, 1.0)[:4]
        b'\x89PNG'
    """
    from PIL import Image

    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a map has rows and columns, got shape {values.shape}")
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"a scale runs from low to high, got {low} to {high}")
    width = high / 2 - low / 2 or 1.0  # halves, since the whole may be beyond the largest number
    place = ((values.clip(low, high) / 2 - low / 2) / width).clip(0.0, 1.0)
    index = np.where(np.isnan(values), 0, 1 + np.nan_to_num(place) * 254).round().astype(np.uint8)
    picture = Image.fromarray(index.repeat(cell, 0).repeat(cell, 1))
    blank = bytes.fromhex((missing or MISSING)[1:])
    picture.putpalette(blank + colours[np.linspace(0, len(colours) - 1, 255).round().astype(int)].tobytes())
    file = BytesIO()
    transparent = {"transparency": 0} if missing is None else {}
    picture.save(file, format="PNG", optimize=True, **transparent)
    return file.getvalue()


def data_uri(png: bytes) -> str:
    """A picture as an address that holds it, for `<img src>`.

    Example:
        >>> data_uri(map_png(np.zeros((1, 1)), 0.0, 1.0))[:22]
        'data:image/png;base64,'
    """
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
