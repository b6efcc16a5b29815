"""Maps on one shared scale: heads, classes of heads, and matrices."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING, Any

from headwise.figures.cell import maps as pictures
from headwise.figures.chart import SHARE, Chart
from headwise.figures.labels import distinct, label, said
from headwise.figures.template import ONE_COLUMN, TWO_COLUMNS, colour_bar, sheet
from headwise.text import head_name

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 24
"""Panels of a figure; further ones are counted."""
_TITLES = {"offset": "position from the first key", "query": "query (the token read)"}
_NAMES = {"offset": "position"}


def figure(chart: Chart) -> go.Figure:
    """One map per panel, all on one printed scale."""
    import plotly.graph_objects as go

    every = chart.panels()
    panels, (down, across) = every[:MOST], chart.axes
    low, high = chart.scale()
    most = max(len(panel.grid) for panel in panels)
    wide = across != "head" and len(panels[0].grid.columns) > len(panels[0].grid)
    columns = 1 if wide else min(len(panels), 3)
    width = ONE_COLUMN if len(panels) == 1 and not wide else TWO_COLUMNS
    left, right, gap = 56, 92, 44
    each = (width - left - right - gap * (columns - 1)) / columns
    tall = round(min(max(most * (18 if columns == 1 else 24), 110), 420 if columns == 1 else each * 1.1))
    more = f"{len(every) - MOST} more panels are left out" if len(every) > MOST else ""
    drawn = sheet(
        [panel.title for panel in panels],
        title=chart.title(),
        subtitle=", ".join(filter(None, [chart.about(), more])),
        heights=[max(tall, 110)] * ceil(len(panels) / columns),
        columns=columns,
        width=width,
        left=left,
        right=right,
        gap=gap,
    )
    for place, grid in enumerate(panel.grid for panel in panels):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        drawn.add_trace(
            go.Heatmap(
                z=grid.to_numpy(),
                x=_places(grid.columns),
                y=_places(grid.index),
                coloraxis="coloraxis",
                hovertemplate=f"{_cell_name(down, across)}: %{{z:.3f}} {label(chart.unit)}<extra></extra>",
                hoverongaps=False,
                xgap=_gap(each, grid.shape[1]),
                ygap=_gap(tall, grid.shape[0]),
            ),
            **at,
        )
        last = place + columns >= len(panels)
        drawn.update_xaxes(
            title_text=label(axis_title(across)) if last else None,
            type=None if across == "head" else _axis_type(grid.columns),
            dtick=_step(grid.shape[1], each / 26, decimal=across != "head"),
            showgrid=False,
            **at,
        )
        drawn.update_yaxes(
            title_text=label(axis_title(down)) if at["col"] == 1 else None,
            autorange="reversed",
            type="category",
            dtick=_step(grid.shape[0], tall / 16),
            showgrid=False,
            **at,
        )
    title = SHARE if chart.kind == "classes" else f"{said(chart.value)} ({chart.unit})"
    colour_bar(drawn, low, high, title=title, diverging=low < 0, length=max(tall, 160))
    return drawn


def static(chart: Chart) -> str:
    """Small pictures of the maps, without scripts."""
    value, unit = (SHARE, "share") if chart.kind == "classes" else (chart.value, chart.unit)
    down, across = map(axis_name, chart.axes)
    return pictures(chart.panels(), *chart.scale(), value=value, unit=unit, axes=(down, across))


def _cell_name(down: str, across: str) -> str:
    """What plotly writes at a cell."""
    if (down, across) == ("layer", "head"):
        return head_name("%{y}", "%{x}")
    return f"{label(axis_name(down))} %{{y}}, {label(axis_name(across))} %{{x}}"


def axis_name(column: str) -> str:
    """What one step along an axis is.

    Example:
        >>> axis_name("offset"), axis_name("key_token")
        ('position', 'key token')
    """
    return _NAMES.get(column, said(column))


def axis_title(column: str) -> str:
    """What stands beside an axis."""
    return _TITLES.get(column, said(column))


def _axis_type(columns: Iterable[object]) -> str | None:
    """Words as categories; numbers as they are."""
    return None if all(isinstance(name, Real) for name in columns) else "category"


def _places(names: Iterable[object]) -> list[Any]:
    """Where rows or columns stand: words by their labels, numbers as they are."""
    return distinct(names) if _axis_type(names) else list(names)


def _step(count: int, room: float, *, decimal: bool = False) -> int:
    """Every which label is shown where there is room for so many."""
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if decimal else (1, 2, 4, 8, 16, 32, 64)
    return next((step for step in steps if count <= room * step), count)


def _gap(pixels: float, cells: int) -> int:
    """Pixels between cells: none where they are small."""
    return 1 if pixels / cells >= 8 else 0
