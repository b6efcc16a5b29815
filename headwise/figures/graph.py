"""Edges as a layered graph: nodes by layer from bottom to top, the heaviest edges thickest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, isinf, isnan
from typing import TYPE_CHECKING

from headwise.figures import svg
from headwise.figures.chart import Chart
from headwise.figures.labels import label, said
from headwise.figures.template import GREY, TWO_COLUMNS, sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 400
"""Edges that are drawn."""
WIDTH, ROW, MARGIN, DOT = 760.0, 64.0, 36.0, 7.0
_LAYER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Graph:
    """Nodes in layers and weighted edges between them."""

    title: str
    nodes: tuple[tuple[str, int, float], ...]
    """(name, layer, sum of the absolute weights at it)."""
    edges: tuple[tuple[str, str, float], ...]
    """(sender, receiver, weight), heaviest first."""
    unit: str = ""


def graph_of(chart: Chart) -> Graph:
    """The graph of a table of edges.

    A node is named by its layer and head (`L3H1`), as `mlp 3`, or in words; `input` stands below all layers, words
    without a number (`logits`) above them. The heaviest edges are shown, of a circuit those that it keeps.
    """
    frame = chart.frame[chart.frame["kept"]] if "kept" in chart.frame else chart.frame
    frame = frame.loc[frame[chart.value].abs().sort_values(ascending=False, kind="stable").index]
    edges = tuple(
        (str(sender), str(receiver), float(weight))
        for sender, receiver, weight in frame[[*chart.axes, chart.value]].head(MOST).itertuples(index=False)
    )
    names = dict.fromkeys(name for sender, receiver, _ in edges for name in (sender, receiver))
    top = 1 + max((layer_of(name) or 0 for name in names), default=0)
    weights = dict.fromkeys(names, 0.0)
    for sender, receiver, weight in edges:
        weights[sender] += abs(weight)
        weights[receiver] += abs(weight)
    nodes = tuple(
        (
            name,
            -1 if name.endswith("input") else top if (layer := layer_of(name)) is None else layer,
            weights[name],
        )
        for name in names
    )
    return Graph(said(chart.name).capitalize(), nodes, edges, chart.unit)


def layer_of(name: str) -> int | None:
    """The layer in a node's name.

    Example:
        >>> layer_of("L3H1"), layer_of("mlp 2"), layer_of("logits")
        (3, 2, None)
    """
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def places(graph: Graph) -> tuple[dict[str, tuple[float, float]], float]:
    """Where every node stands in the picture, and how high the picture is; layers without a node take no room."""
    layers = sorted({layer for _, layer, _ in graph.nodes}, reverse=True)
    height = 2 * MARGIN + ROW * (len(layers) - 1)
    found = {}
    for row, layer in enumerate(layers):
        names = [name for name, own, _ in graph.nodes if own == layer]
        step = (WIDTH - 2 * MARGIN) / len(names)
        for column, name in enumerate(sorted(names)):
            found[name] = (MARGIN + step * (column + 0.5), MARGIN + ROW * row)
    return found, height


def thickness(graph: Graph, weight: float) -> float:
    """Width of an edge in pixels: the heaviest of the graph has four, and so has an infinite one."""
    most = max((abs(w) for _, _, w in graph.edges if isfinite(w)), default=0.0)
    if isnan(weight) or not most or not weight:
        return 4.0 if isinf(weight) else 0.6
    return 0.6 + 3.4 * min(1.0, abs(weight) / most)


def figure(chart: Chart) -> go.Figure:
    """The graph; edges of negative weight are dashed."""
    import plotly.graph_objects as go

    graph = graph_of(chart)
    at, height = places(graph)
    left_out = len(chart.frame) - len(graph.edges)
    known = [chart.about(), f"the {MOST} heaviest of {len(chart.frame)} edges" if left_out else ""]
    drawn = sheet(
        [""],
        title=chart.title(),
        subtitle=", ".join(filter(None, known)),
        heights=[max(110, round(height))],
        width=TWO_COLUMNS,
    )
    for sender, receiver, weight in graph.edges:
        ends = (at[sender], at[receiver])
        drawn.add_trace(
            go.Scatter(
                x=[end[0] for end in ends],
                y=[end[1] for end in ends],
                mode="lines",
                line={
                    "color": GREY,
                    "width": thickness(graph, weight),
                    "dash": "dash" if weight < 0 else "solid",
                },
                hoverinfo="skip",
                showlegend=False,
            )
        )
    names = [name for name, _, _ in graph.nodes]
    drawn.add_trace(
        go.Scatter(
            x=[at[name][0] for name in names],
            y=[at[name][1] for name in names],
            text=[label(name) for name in names],
            customdata=[score for _, _, score in graph.nodes],
            mode="markers+text",
            textposition="top center",
            marker={"size": 2 * DOT, "color": "#0072B2"},
            hovertemplate=f"%{{text}}: %{{customdata:.4g}} {label(chart.unit)} over its edges<extra></extra>",
            showlegend=False,
        )
    )
    drawn.update_xaxes(visible=False, range=[0, WIDTH])
    drawn.update_yaxes(visible=False, range=[height, 0])
    return drawn


def static(chart: Chart) -> str:
    """The graph as SVG."""
    graph = graph_of(chart)
    at, height = places(graph)
    edges = [(at[s], at[r], thickness(graph, weight), weight < 0) for s, r, weight in graph.edges]
    return svg.graph(edges, [(*at[name], name) for name, _, _ in graph.nodes], (WIDTH, height), DOT)
