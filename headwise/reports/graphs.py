"""Circuits as layered graphs: nodes by layer from bottom to top, edges by weight, in one SVG without scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headwise.reports.content import Graph

if TYPE_CHECKING:
    from headwise.analyses import Result

COLUMNS = ("sender", "receiver", "weight")
MOST_EDGES = 400
WIDTH, ROW, MARGIN, DOT = 760.0, 64.0, 36.0, 7.0
_LAYER = re.compile(r"(\d+)")


def graph_of(result: Result) -> list[Graph]:
    """The graph of a result whose rows are edges: columns `sender`, `receiver` and `weight`; none for another.

    A node is named by its layer and head (`3.1`), as `mlp 3`, or in words; `input` stands below all layers, words
    without a number (`logits`) above them. The heaviest edges are shown.
    """
    if not set(COLUMNS) <= set(result.frame):
        return []
    frame = result.frame.loc[result.frame["weight"].abs().sort_values(ascending=False).index]
    edges = tuple(
        (str(sender), str(receiver), float(weight))
        for sender, receiver, weight in frame[list(COLUMNS)].head(MOST_EDGES).itertuples(index=False)
    )
    names = dict.fromkeys(name for sender, receiver, _ in edges for name in (sender, receiver))
    top = 1 + max((layer_of(name) or 0 for name in names), default=0)
    weights = {name: sum(abs(w) for s, r, w in edges if name in (s, r)) for name in names}
    nodes = tuple(
        (name, -1 if name == "input" else top if (layer := layer_of(name)) is None else layer, weights[name])
        for name in names
    )
    return [Graph(result.name.replace("_", " ").capitalize(), nodes, edges, result.unit)]


def layer_of(name: str) -> int | None:
    """The layer in a node's name.

    Example:
        >>> layer_of("3.1"), layer_of("mlp 2"), layer_of("logits")
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
    """Width of an edge in pixels: the heaviest of the graph has four."""
    most = max((abs(w) for _, _, w in graph.edges), default=0.0)
    return 0.6 + 3.4 * abs(weight) / most if most else 0.6
