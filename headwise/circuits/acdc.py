"""ACDC: from the logits upwards, every edge that the metric can spare is removed for good."""

from __future__ import annotations

import torch

from headwise.circuits.attribution import Scores
from headwise.circuits.experiment import Experiment
from headwise.circuits.patching import circuit_metric
from headwise.circuits.selection import Kept


def acdc(experiment: Experiment, threshold: float) -> tuple[Kept, Scores]:
    """The edges that remain, and what the metric lost (below 0) or won when each was tried.

    Conmy et al. 2023 (arXiv 2304.14997): receivers from the logits backwards, senders of each from the last to the
    first. An edge whose replacement lowers the metric by less than `threshold` carries the corrupted value from then
    on; the comparison is signed. Nodes without edges are not dropped (`headwise.circuits.selection.connected` does
    it). One forward per edge and batch.

    Args:
        experiment: model and task.
        threshold: in units of the metric, mean over pairs.
    """
    graph = experiment.graph
    kept, scores = graph.edges.clone(), torch.zeros(graph.edges.shape)
    current = float(circuit_metric(experiment, kept).mean())
    for receiver in reversed(range(len(graph.receivers))):
        for sender in reversed(graph.edges[:, receiver].nonzero()[:, 0].tolist()):
            kept[sender, receiver] = False
            tried = float(circuit_metric(experiment, kept).mean())
            scores[sender, receiver] = tried - current
            if current - tried < threshold:
                current = tried
            else:
                kept[sender, receiver] = True
    return kept, scores
