"""Numbers along one axis: per layer, and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.figures import svg
from headwise.figures.chart import Chart, layer_names
from headwise.figures.colours import CATEGORIES
from headwise.figures.labels import distinct, label, said
from headwise.figures.template import TWO_COLUMNS, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 7
"""Lines of a figure: as many as there are colours that can be told apart; further ones are counted."""
_HEIGHT = 240


@dataclass(frozen=True)
class Line:
    """One line: its name, and its points in the order of the axis."""

    name: str
    x: list[float] | list[str]
    y: list[float]


def lines(chart: Chart) -> list[Line]:
    """One line for every value of the key columns that are not the axis, mean over examples."""
    frame, axis = chart.mean(), chart.axes[0]
    by_layer = axis == "layer"
    frame = frame.assign(layer=layer_names(frame)) if by_layer else frame.sort_values(axis, kind="stable")
    parts = frame.groupby(chart.groups, sort=False, dropna=False) if chart.groups else [((), frame)]
    return [
        Line(" ".join(map(str, names)), part[axis].to_list(), part[chart.value].to_list())
        for names, part in parts
    ]


def figure(chart: Chart) -> go.Figure:
    """All lines on one pair of axes."""
    import plotly.graph_objects as go

    every = lines(chart)
    more = f"{len(every) - MOST} more lines are left out" if len(every) > MOST else ""
    drawn = sheet(
        [""],
        title=chart.title(),
        subtitle=", ".join(filter(None, [chart.about(), more])),
        heights=[_HEIGHT],
        width=TWO_COLUMNS,
        left=64,
        right=20 if len(every) == 1 else 180,
    )
    words = list(dict.fromkeys(x for line in every for x in line.x if isinstance(x, str)))
    places = dict(zip(words, distinct(words), strict=True))
    for line, colour in zip(every, CATEGORIES, strict=False):
        drawn.add_trace(
            go.Scatter(
                x=[places[x] if isinstance(x, str) else x for x in line.x],
                y=line.y,
                name=label(line.name or said(chart.value)),
                mode="lines+markers",
                line={"color": colour},
                hovertemplate=f"{label(line.name)} {label(said(chart.axes[0]))} %{{x}}: %{{y:.4g}} {label(chart.unit)}"
                "<extra></extra>",
                showlegend=len(every) > 1,
            )
        )
    drawn.update_xaxes(title_text=label(said(chart.axes[0])), type="category" if words else None)
    drawn.update_yaxes(title_text=label(f"{said(chart.value)} ({chart.unit})", limit=60), range=chart.scale())
    return drawn


def static(chart: Chart) -> str:
    """All lines in one SVG."""
    shown = [(line.name, line.x, line.y) for line in lines(chart)[:MOST]]
    axes = (said(chart.axes[0]), f"{said(chart.value)} ({chart.unit})")
    return svg.lines(shown, chart.scale(), axes)
