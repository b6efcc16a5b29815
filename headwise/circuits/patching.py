"""Edges replaced one by one: what attribution estimates, measured."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from headwise.circuits.attribution import Scores
from headwise.circuits.experiment import Experiment
from headwise.circuits.stream.runs import record, run_edges, run_mask
from headwise.errors import InputError

Direction = Literal["noise", "denoise"]
"""`noise` puts corrupted values into the clean run, `denoise` clean values into the corrupted one."""
ROWS = 64
"""Prompts that run side by side while edges are replaced."""


def edge_patching(
    experiment: Experiment, direction: Direction = "noise", edges: Tensor | None = None
) -> Scores:
    """Effect on the metric of one edge carrying what its sender writes on the other prompt, mean over pairs.

    The receiver alone reads it, before its norm; all behind it is computed anew. One forward per edge and pair, many
    side by side.

    Args:
        experiment: model and task.
        direction: which prompt the model runs on; the other one gives the values.
        edges: True on those to replace, (sender, receiver); all when None.

    Returns:
        Metric with the edge replaced less metric without; 0 where there is no edge.
    """
    graph, there = experiment.graph, ("clean", "corrupted")
    here, other = there if direction == "noise" else there[::-1]
    wanted = (graph.edges if edges is None else graph.edges & edges).nonzero()
    total = torch.zeros(graph.edges.shape, dtype=torch.float64)
    for batch in experiment.batches():
        written, _ = record(experiment.model, graph, getattr(batch, other))
        _, logits = record(experiment.model, graph, getattr(batch, here))
        plain = experiment.values(logits, batch)
        for chunk in wanted.split(max(1, ROWS // len(batch))):
            inputs, places = experiment.copies(batch, len(chunk), here)
            rows = chunk.repeat(len(batch), 1)
            logits = run_edges(experiment.model, graph, inputs, written, rows, places)
            change = experiment.values(logits, batch, places) - plain[places]
            total[chunk[:, 0], chunk[:, 1]] += change.view(len(batch), -1).sum(0).double().cpu()
    return (total / len(experiment.pairs)).float()


def circuit_metric(experiment: Experiment, kept: Tensor) -> Tensor:
    """(pair,) metric on the clean prompts when every edge that is not kept carries what its sender writes on the
    corrupted ones.
    """
    graph = experiment.graph
    if kept.shape != graph.edges.shape or bool((kept & ~graph.edges).any()):
        raise InputError(
            "The edges are those of another model.",
            evidence=f"{tuple(kept.shape)}; this one has {graph}",
            remedy="Use the model that the circuit was found in.",
        )
    mask = (graph.edges & ~kept).float()
    found = torch.empty(len(experiment.pairs))
    for prepared in experiment.prepared():
        batch = prepared.batch
        logits = run_mask(experiment.model, graph, batch.clean, prepared.corrupted, mask)
        found[list(batch.numbers)] = experiment.values(logits, batch).float().cpu()
    return found
