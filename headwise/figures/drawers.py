"""How every kind of result is drawn: as a figure of plotly, and as static HTML for cells and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from headwise.figures import bars, differences, graph, lines, maps
from headwise.figures.chart import Chart

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Drawer(NamedTuple):
    """Both forms of one kind."""

    figure: Callable[[Chart], go.Figure]
    static: Callable[[Chart], str]


BY_KIND: Mapping[str, Drawer] = MappingProxyType(
    {
        "heads": Drawer(maps.figure, maps.static),
        "classes": Drawer(maps.figure, maps.static),
        "matrix": Drawer(maps.figure, maps.static),
        "layers": Drawer(lines.figure, lines.static),
        "curve": Drawer(lines.figure, lines.static),
        "positions": Drawer(bars.figure, bars.static),
        "rows": Drawer(bars.figure, bars.static),
        "edges": Drawer(graph.figure, graph.static),
        "difference": Drawer(differences.figure, differences.static),
    }
)
"""Kind of result -> its drawer."""


def draw(chart: Chart) -> go.Figure:
    """The figure of a chart; one that says so where nothing was found."""
    return BY_KIND[chart.kind].figure(chart) if len(chart.frame) else _empty(chart)


def static(chart: Chart) -> str:
    """Static HTML of a chart; empty where nothing was found."""
    return BY_KIND[chart.kind].static(chart) if len(chart.frame) else ""


def _empty(chart: Chart) -> go.Figure:
    from headwise.figures.template import ONE_COLUMN, sheet

    figure = sheet([""], title=chart.title(), subtitle=chart.about(), heights=[60], width=ONE_COLUMN)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return figure.add_annotation(
        text="nothing was found", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
    )
