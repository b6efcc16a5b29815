"""How much of a task a circuit does, what is left without it, and whether all of it is needed."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from headwise.circuits.experiment import Experiment
from headwise.circuits.patching import circuit_metric
from headwise.circuits.selection import Kept, connected
from headwise.circuits.stream.graph import StreamGraph


def faithfulness(experiment: Experiment, kept: Kept) -> float:
    """Share of the metric that the circuit alone restores: (F(C) - F(∅)) / (F(M) - F(∅)).

    F is the mean metric on the clean prompts with every other edge carrying corrupted values, ∅ the circuit without
    edges (which is the corrupted run), M the model. 1 is all of it; more is possible where what works against the
    answer is left out. Hanna et al. 2024; it depends on size, metric and corruption, so give them with it.
    """
    empty, full = float(experiment.corrupted.mean()), float(experiment.clean.mean())
    return (float(circuit_metric(experiment, kept).mean()) - empty) / (full - empty)


def without_nodes(graph: StreamGraph, kept: Kept, nodes: Collection[str]) -> Kept:
    """A circuit without what some senders write."""
    found = kept.clone()
    found[[number for number, name in enumerate(graph.senders) if name in nodes]] = False
    return found


def minimality(experiment: Experiment, kept: Kept) -> dict[str, float]:
    """For every sender of a circuit, the metric without what it writes less the metric of the circuit.

    Near 0, the circuit does without it: Wang et al. 2022 (arXiv 2211.00593), with the empty set for their K.
    """
    graph, whole = experiment.graph, float(circuit_metric(experiment, kept).mean())
    return {
        name: float(circuit_metric(experiment, without_nodes(graph, kept, [name])).mean()) - whole
        for name, used in zip(graph.senders, kept.any(1).tolist(), strict=True)
        if used
    }


def completeness(
    experiment: Experiment, kept: Kept, *, sets: int = 10, seed: int = 0
) -> list[tuple[float, float]]:
    r"""For random sets K of its heads and MLPs, the metric of the circuit without K and of the model without K.

    Complete circuits and their model fall alike: |F(C \ K) - F(M \ K)| is small (Wang et al. 2022). Each is
    in K with probability one half.

    Args:
        experiment: model and task.
        kept: the circuit.
        sets: how many.
        seed: of the sets.
    """
    graph, generator = experiment.graph, torch.Generator().manual_seed(seed)
    used = kept.any(1).nonzero()[:, 0].tolist()
    nodes = [graph.senders[number] for number in used if number >= len(graph.starts)]
    found = []
    for _ in range(sets):
        drawn = torch.rand(len(nodes), generator=generator) < 0.5
        without = [name for name, one in zip(nodes, drawn.tolist(), strict=True) if one]
        pair = [
            float(circuit_metric(experiment, without_nodes(graph, edges, without)).mean())
            for edges in (kept, graph.edges)
        ]
        found.append((pair[0], pair[1]))
    return found


def random_faithfulness(experiment: Experiment, kept: Kept, *, draws: int = 20, seed: int = 0) -> Tensor:
    """(draw,) faithfulness of random circuits with as many edges, of which those that lead nowhere are dropped.

    Edges are drawn until as many remain; what a circuit has over them is its own.
    """
    graph, generator = experiment.graph, torch.Generator().manual_seed(seed)
    return torch.tensor(
        [faithfulness(experiment, _random(graph, int(kept.sum()), generator)) for _ in range(draws)]
    )


def _random(graph: StreamGraph, count: int, generator: torch.Generator) -> Kept:
    order = graph.edges.flatten().nonzero()[:, 0]
    order = order[torch.randperm(len(order), generator=generator)]
    low, high = count, len(order)
    while low < high:  # the fewest whose connected part has as many
        middle = (low + high) // 2
        if int(connected(graph, _marked(graph, order[:middle])).sum()) < count:
            low = middle + 1
        else:
            high = middle
    return connected(graph, _marked(graph, order[:low]))


def _marked(graph: StreamGraph, chosen: Tensor) -> Kept:
    kept = torch.zeros(graph.edges.numel(), dtype=torch.bool)
    kept[chosen] = True
    return kept.view_as(graph.edges)
