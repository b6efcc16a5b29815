"""Which edges are kept: the strongest ones, those above a threshold, or the best way down from the logits."""

from __future__ import annotations

import heapq
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.circuits.stream.graph import StreamGraph
from headwise.errors import InputError

Rule = Literal["top", "greedy"]
Scores = Float[Tensor, "sender receiver"]
Kept = Bool[Tensor, "sender receiver"]


def select(graph: StreamGraph, scores: Scores, *, edges: int, rule: Rule = "top") -> Kept:
    """The strongest edges by the size of their scores, of which those that lead nowhere are dropped.

    * `top`: the `edges` largest of the graph.
    * `greedy`: from the logits upwards, again and again the largest edge into a node that is in.

    Args:
        graph: of the model.
        scores: of every edge.
        edges: how many, before dropping.
        rule: how they are chosen.

    Raises:
        InputError: none is asked for, or more than there are.
    """
    count = int(graph.edges.sum())
    if not 1 <= edges <= count:
        raise InputError(
            "A circuit has one edge or more, of those there are.", evidence=f"edges={edges} of {count}"
        )
    if rule == "greedy":
        return connected(graph, _greedy(graph, scores.abs(), edges))
    sizes = scores.abs().masked_fill(~graph.edges, -1.0).flatten()
    kept = torch.zeros_like(sizes, dtype=torch.bool)
    kept[sizes.argsort(descending=True, stable=True)[:edges]] = True
    return connected(graph, kept.view_as(scores))


def above(graph: StreamGraph, scores: Scores, threshold: float) -> Kept:
    """Edges whose score is larger than a threshold in size, of which those that lead nowhere are dropped."""
    return connected(graph, graph.edges & (scores.abs() > threshold))


def connected(graph: StreamGraph, kept: Kept) -> Kept:
    """Without edges of nodes that nothing reaches from an input, or that do not lead to the logits."""
    kept = kept & graph.edges
    inputs = len(graph.starts)
    while True:
        fed = torch.zeros(len(graph.senders), dtype=torch.bool)
        fed[:inputs] = True
        leads = torch.zeros(len(graph.receivers), dtype=torch.bool)
        leads[-1] = True
        reached, heard = kept.any(0), kept.any(1)
        for receiver, senders in enumerate(graph.senders_of):
            for sender in senders:
                fed[sender] |= reached[receiver]
                leads[receiver] |= heard[sender]
        smaller = kept & fed[:, None] & leads[None]
        if torch.equal(smaller, kept):
            return kept
        kept = smaller


def _greedy(graph: StreamGraph, sizes: Scores, edges: int) -> Kept:
    kept = torch.zeros_like(graph.edges)
    receivers_of: dict[int, list[int]] = {}
    for receiver, senders in enumerate(graph.senders_of):
        for sender in senders:
            receivers_of.setdefault(sender, []).append(receiver)
    heap: list[tuple[float, int, int]] = []
    inside: set[int] = set()

    def enter(receiver: int) -> None:
        if receiver not in inside:
            inside.add(receiver)
            for sender in graph.edges[:, receiver].nonzero()[:, 0].tolist():
                heapq.heappush(heap, (-float(sizes[sender, receiver]), sender, receiver))

    enter(len(graph.receivers) - 1)
    for _ in range(edges):
        if not heap:
            break
        _, sender, receiver = heapq.heappop(heap)
        kept[sender, receiver] = True
        for feeding in receivers_of.get(sender, ()):
            enter(feeding)
    return kept
