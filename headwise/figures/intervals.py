"""Numbers with their intervals as dots, in panels of one unit each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from math import isfinite
from typing import TYPE_CHECKING

from headwise.figures.colours import CLEAR, UNCLEAR
from headwise.figures.labels import label
from headwise.figures.template import GREY, TWO_COLUMNS, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROW, _ENDS = 26, 20
"""Pixels per name, and above the first and below the last."""


@dataclass(frozen=True)
class Interval:
    """A number between its ends."""

    name: str
    value: float
    low: float
    high: float
    clear: bool = True
    """False leaves it hollow and grey: the number may as well be zero."""


@dataclass(frozen=True)
class Panel:
    """Intervals on one axis."""

    title: str
    axis: str
    """Name and unit of the axis."""
    intervals: Sequence[Interval]
    bounds: tuple[float, float] | None = None
    """The whole range of the unit; None shows what the intervals need."""


def interval_figure(
    panels: Sequence[Panel], *, title: str, subtitle: str, columns: int = 1, zero: bool = False
) -> go.Figure:
    """Panels of dots with intervals; where `columns` are more than one, their names stand at the left only.

    Args:
        panels: in reading order; those of one row have the same names where there are several columns.
        title: over all of them.
        subtitle: smaller below it: n and the kind of interval.
        columns: panels in a row.
        zero: a line at 0, where nothing differs.
    """
    from plotly.graph_objects import Scatter

    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [_ROW * max(len(panel.intervals) for panel in row) + _ENDS for row in rows]
    longest = max(len(unescape(label(item.name))) for panel in panels for item in panel.intervals)
    figure = sheet(
        [panel.title for panel in panels],
        title=title,
        subtitle=subtitle,
        heights=heights,
        columns=columns,
        width=TWO_COLUMNS,
        left=min(300, 34 + round(6.4 * longest)),
        gap=40,
    )
    for place, panel in enumerate(panels):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        items = panel.intervals
        names = [label(item.name) for item in items]
        colours = [CLEAR if item.clear else UNCLEAR for item in items]
        figure.add_trace(
            Scatter(
                x=[item.value for item in items],
                y=list(range(len(items))),
                customdata=[[name, _ends(item)] for name, item in zip(names, items, strict=True)],
                error_x={
                    "type": "data",
                    "array": [item.high - item.value for item in items],
                    "arrayminus": [item.value - item.low for item in items],
                    "color": GREY,
                    "thickness": 1.5,
                    "width": 4,
                },
                mode="markers",
                marker={
                    "color": colours,
                    "symbol": ["circle" if item.clear else "circle-open" for item in items],
                    "size": 9,
                    "line": {"width": 2, "color": colours},
                },
                hovertemplate="%{customdata[0]}: %{x:.4f} %{customdata[1]}<extra></extra>",
                showlegend=False,
            ),
            **at,
        )
        if zero:
            figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"}, **at)
        figure.update_xaxes(
            title_text=label(panel.axis), range=_span(panel, zero), nticks=5 if columns > 1 else 8, **at
        )
        figure.update_yaxes(
            tickvals=list(range(len(names))),
            ticktext=names,
            range=[len(names) - 0.5 + _ENDS / _ROW / 2, -0.5 - _ENDS / _ROW / 2],
            showticklabels=at["col"] == 1,
            showgrid=False,
            **at,
        )
    return figure


def _ends(item: Interval) -> str:
    return f"[{item.low:.4f}, {item.high:.4f}]" if isfinite(item.high - item.low) else "no interval"


def _span(panel: Panel, zero: bool) -> tuple[float, float] | None:
    """The range of the axis: the whole unit, or all ends with some room, and zero where it is asked for."""
    if panel.bounds is not None:
        room = 0.02 * (panel.bounds[1] - panel.bounds[0])
        return panel.bounds[0] - room, panel.bounds[1] + room
    ends = [end for item in panel.intervals for end in (item.value, item.low, item.high) if isfinite(end)]
    ends += [0.0] if zero or not ends else []
    room = 0.08 * max(ends) - 0.08 * min(ends) or 0.01 * max(1.0, abs(max(ends)))
    return min(ends) - room, max(ends) + room
