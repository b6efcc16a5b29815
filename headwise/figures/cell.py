"""What a notebook, a mail or a repository page shows of a finding: text, small pictures and a short table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from headwise.figures.colours import CIVIDIS, DIVERGING
from headwise.figures.labels import said
from headwise.figures.pixels import data_uri, map_png
from headwise.figures.tables import cell_text, table
from headwise.text import head_name, shortened, visible

if TYPE_CHECKING:
    import pandas as pd

SUMMARY, TEXT = 2000, 40
"""Letters of the summary, and of a text in a table."""
ROWS, COLUMNS = 16, 14
_WIDE, _CELLS = 240, 256
"""Pixels of a picture, and rows or columns of it."""
_NAMED, _STEP, _NAME = 16, 18, 16
"""Rows or columns up to which each has its name beside the picture, the pixels of one, and the letters of a name."""
_BYTES = 60_000
"""Of all pictures together; the whole cell stays below 200 kB."""
_SMALL = "font-size:12px"


@dataclass(frozen=True)
class Map:
    """A grid of numbers with a title."""

    title: str
    grid: pd.DataFrame
    """The numbers; the index goes down, the columns across."""


def cell(
    summary: str,
    *,
    tables: Sequence[tuple[str, pd.DataFrame]],
    pictures: str = "",
    description: str = "",
) -> str:
    """A finding as static HTML of at most 200 kB: no scripts, inline styles only, see `framed`.

    Args:
        summary: the finding, one sentence.
        tables: what each shows, and the rows; the first few are shown.
        pictures: what `maps` gave.
        description: how to read the numbers.
    """
    text = visible(shortened(visible(summary, limit=SUMMARY)), limit=SUMMARY)
    parts = [f"<p>{escape(text)}</p>", pictures]
    for name, frame in tables:
        rest = len(frame) - ROWS
        more = f" (first {ROWS} of {len(frame):,} rows)" if rest > 0 else ""
        narrow = frame.iloc[:ROWS, :COLUMNS]
        parts.append(table(narrow, caption=f"{name}{more}" if name or more else "", limit=TEXT))
    if description:
        parts.append(f'<p style="{_SMALL}">{escape(visible(description, limit=SUMMARY))}</p>')
    return framed("".join(parts))


def framed(content: str) -> str:
    """HTML of a cell in the element around it, in which hosts with MathJax take no `$` for the sign of a formula.

    Example:
        >>> framed("<p>$a$</p>").startswith('<div class="tex2jax_ignore mathjax_ignore"')
        True
    """
    style = "max-width:100%;overflow-x:auto;font-family:sans-serif"
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{style}">{content}</div>'


def maps(
    items: Sequence[Map],
    low: float,
    high: float,
    *,
    value: str,
    unit: str,
    axes: tuple[str, str] = ("layer", "head"),
) -> str:
    """Small pictures of maps on one printed scale.

    Args:
        items: the maps, in reading order; those beyond what a cell may hold are counted instead.
        low: what the first colour stands for.
        high: what the last colour stands for.
        value: what is shown.
        unit: of the value.
        axes: what one step down and one step across is.
    """
    figures = list(_figures(items, low, high, value=said(value), unit=unit, axes=axes))
    left_out = len(items) - len(figures)
    colours = DIVERGING if low < 0 else CIVIDIS
    down, across = (escape(visible(_several(axis), limit=TEXT)) for axis in axes)
    bar = data_uri(map_png(np.linspace(0.0, 1.0, 120)[None], 0.0, 1.0, colours=colours, cell=1))
    scale = (
        f'<p style="{_SMALL}">{cell_text(low)} '
        f'<img src="{bar}" alt="colour scale" style="width:120px;height:10px;vertical-align:middle"> '
        f"{cell_text(high)} {escape(visible(said(value), limit=TEXT))} ({escape(visible(unit, limit=TEXT))}); "
        f"{down} down, {across} across</p>"
    )
    more = f"<p>and {left_out} more maps in <code>.plot()</code></p>" if left_out else ""
    return f"<div>{''.join(figures)}</div>{scale}{more}"


def _several(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("y") and name[-2:-1] not in "aeiou" else f"{name}s"


def _figures(
    items: Sequence[Map], low: float, high: float, *, value: str, unit: str, axes: tuple[str, str]
) -> Iterator[str]:
    left = _BYTES
    for item in items:
        grid = item.grid.iloc[:_CELLS, :_CELLS]
        rows, columns = grid.shape
        named = axes != ("layer", "head") and max(rows, columns) <= _NAMED
        pixels = _STEP if named else max(1, min(16, _WIDE // max(rows, columns)))
        tall = max(pixels, min(12, 96 // rows))
        colours = DIVERGING if low < 0 else CIVIDIS
        uri = data_uri(map_png(grid.to_numpy(), low, high, colours=colours, cell=pixels))
        cut = "" if grid.shape == item.grid.shape else f" (first {rows} × {columns})"
        caption = escape(visible(f"{item.title}{cut}", limit=80))
        alt = escape(visible(_alt(item, value, unit, axes), limit=300))
        picture = (
            f'<img src="{uri}" alt="{alt}" width="{columns * pixels}" height="{rows * tall}" '
            'style="image-rendering:pixelated;display:block">'
        )
        figure = (
            '<figure style="display:inline-block;margin:4px 12px 4px 0;vertical-align:top">'
            f'<figcaption style="{_SMALL}">{caption}</figcaption>'
            f"{_with_names(picture, grid) if named else picture}</figure>"
        )
        left -= len(figure)
        if left < 0:
            return
        yield figure


def _with_names(picture: str, grid: pd.DataFrame) -> str:
    """A picture between the names of its rows and columns; the words for who cannot see it stay with the picture."""
    above, beside = (
        [escape(visible(str(name), limit=_NAME)) for name in names] for names in (grid.columns, grid.index)
    )
    across = "".join(
        f'<span style="width:{_STEP}px;writing-mode:vertical-rl;transform:rotate(180deg)">{name}</span>'
        for name in above
    )
    down = "".join(f'<div style="height:{_STEP}px">{name}</div>' for name in beside)
    return (
        f'<div style="display:grid;grid-template-columns:auto auto;gap:2px 4px;width:max-content;line-height:{_STEP}px;'
        f'{_SMALL}"><span></span><div style="display:flex;align-items:flex-end">{across}</div>'
        f'<div style="text-align:right">{down}</div>{picture}</div>'
    )


def _alt(item: Map, value: str, unit: str, axes: tuple[str, str]) -> str:
    """The map in words: its size, and where it is lowest and highest."""
    grid = item.grid.to_numpy(dtype=float)
    counts = " × ".join(f"{count} {_several(name)}" for count, name in zip(grid.shape, axes, strict=True))
    size = f"{value} ({unit}), {item.title}: {counts}"
    if np.isnan(grid).all():
        return f"{size}; no values"
    ends = []
    for word, flat in (("lowest", np.nanargmin(grid)), ("highest", np.nanargmax(grid))):
        row, column = divmod(int(flat), grid.shape[1])
        down, across = item.grid.index[row], item.grid.columns[column]
        heads = axes == ("layer", "head")
        where = head_name(down, across) if heads else f"{axes[0]} {down}, {axes[1]} {across}"
        ends.append(f"{word} {cell_text(float(grid[row, column]))} in {where}")
    return f"{size}; {'; '.join(ends)}"
