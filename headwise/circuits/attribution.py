"""Edges scored by gradients: one forward and backward says how the metric changes with every edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.circuits.experiment import Experiment
from headwise.circuits.stream.graph import StreamGraph
from headwise.circuits.stream.runs import Writes, record
from headwise.circuits.stream.slopes import slopes
from headwise.errors import InputError

Path = Literal["eap", "eap-ig", "eap-ig-activations", "clean-corrupted"]
"""Where gradients are taken, between the corrupted and the clean prompt."""
Scores = Float[Tensor, "sender receiver"]


def edge_attribution(experiment: Experiment, path: Path = "eap-ig", steps: int = 5) -> Scores:
    """Estimated effect on the metric of every edge carrying what its sender writes on the corrupted prompt.

    The difference of what the sender writes, corrupted less clean, times the gradient of the metric with respect to
    what the receiver reads, summed over positions; mean over pairs. Negative: the metric falls without the edge.

    * `eap`: the gradient at the clean prompt (Syed et al. 2023, arXiv 2310.10348).
    * `eap-ig`: its mean over `steps` points s/steps of the way from the corrupted to the clean embeddings, s = 0 …
      steps - 1 (Hanna et al. 2024, arXiv 2403.17806).
    * `clean-corrupted`: the mean of both ends.
    * `eap-ig-activations`: one group of senders after the other (input, heads of a site, MLP) is moved along its way,
      s = 1 … steps; the mean over all those runs.

    Raises:
        InputError: there is no step.

    Returns:
        Where there is no edge, 0.
    """
    if steps < 1:
        raise InputError("A path has one step or more.", evidence=f"steps={steps}")
    graph = experiment.graph
    total = torch.zeros(len(graph.senders), len(graph.receivers), dtype=torch.float64)
    for prepared in experiment.prepared():
        batch = prepared.batch
        clean, _ = record(experiment.model, graph, batch.clean)
        way = _Way(graph, clean, prepared.corrupted)
        differences = {
            tower: torch.stack([way.corrupted[n] - clean[n] for n in graph.senders_in(tower)])
            for tower in graph.starts
        }
        points = list(way.points(path, steps))
        for instead in points:
            for number, gradients in slopes(
                experiment.model, graph, batch.clean, experiment.metric_of(batch), instead
            ):
                read, first = graph.reads[number], graph.first_receiver[number]
                senders = graph.heard(read)
                there = differences[read.tower][: len(senders)].flatten(1)
                found = there @ gradients.flatten(1).to(there).T
                total[senders, first : first + len(read.names)] += found.double().cpu() / len(points)
    return (total / len(experiment.pairs)).float()


@dataclass(frozen=True, eq=False)
class _Way:
    """From what is written on the corrupted prompt to what is written on the clean one."""

    graph: StreamGraph
    clean: Writes
    corrupted: Writes

    def points(self, path: Path, steps: int) -> Iterator[Mapping[nn.Module, Tensor]]:
        """What is put in the place of what is written, at every point of a path."""
        if path == "eap-ig-activations":
            for share in (step / steps for step in range(1, steps + 1)):
                yield self.inputs(share)
                for number in range(len(self.graph.writes)):
                    yield self.written(number, share)
            return
        ends = {"eap": [1.0], "clean-corrupted": [0.0, 1.0]}
        for share in ends.get(path, [step / steps for step in range(steps)]):
            yield self.inputs(share)

    def inputs(self, share: float) -> dict[nn.Module, Tensor]:
        """The inputs of all towers, `share` of the way."""
        return {block: self._at(number, share) for number, block in enumerate(self.graph.starts.values())}

    def written(self, number: int, share: float) -> dict[nn.Module, Tensor]:
        """What a module writes, `share` of the way."""
        write, first = self.graph.writes[number], self.graph.first_sender[number]
        parts = [self._at(first + head, share) for head in range(len(write.names))]
        whole = torch.stack(parts).sum(0)
        bias = getattr(write.module, "bias", None) if write.weight is not None else None
        return {write.module: whole if bias is None else whole + bias}

    def _at(self, sender: int, share: float) -> Tensor:
        return torch.lerp(self.corrupted[sender], self.clean[sender], share)
