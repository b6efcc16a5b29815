"""Saliency by attention: as it is, through all layers, and with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.functional.relevancy import Step, relevancy
from headwise.functional.relevancy import rollout as roll_out
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.capture import capture
from headwise.saliency.explained import Explained, Maps
from headwise.saliency.flow import largest_flows
from headwise.saliency.gradients import gradients, require_slope

Through = Callable[[Sequence[Step], Sequence[Tensor]], tuple[Tensor, Tensor | None]]
"""From patterns of the tower that writes and of its source to a map of each."""


@dataclass(frozen=True, eq=False)
class Patterns:
    """Patterns of an example, (example, head, row, key), in the order in which sites run."""

    example: Explained
    by_site: dict[Site, Float[Tensor, "one head row key"]]
    values: Float[Tensor, "one token"]

    def source_of(self, site: Site) -> str:
        """The tower of its keys."""
        return key_tower(site.tower, site.kind, self.example.question.layout.axes)

    def map_of(self, through: Through, means: dict[Site, Tensor]) -> dict[str, Tensor]:
        """Maps of all rows, from patterns that are averaged over heads."""
        tower = self.example.question.tower
        steps = [(one, site.kind == "cross") for site, one in means.items() if site.tower == tower]
        source = next((self.source_of(site) for site in means if site.kind == "cross"), None)
        within = [one for site, one in means.items() if site.tower == source and site.kind == "self"]
        own, other = through(steps, within)
        return {tower: own} if other is None or source is None else {source: other, tower: own}


def patterns_of(example: Explained, *, gradient: bool = False) -> Patterns:
    """The patterns of a forward, with their graph where a gradient is wanted.

    Raises:
        CaptureError: they would not fit into memory.
    """
    question, graph = example.question, torch.enable_grad() if gradient else torch.no_grad()
    with graph, capture(question.subject, stats=False, maps=True, gradients=gradient) as trace:
        values, _ = replace(example, at="input").forward()
    found = {site: record["maps"] for site, record in trace.records.items() if "maps" in record}
    order = sorted(found, key=lambda site: (site.tower, site.layer, site.kind != "self", site.call))
    return Patterns(example, {site: found[site] for site in order}, values)


def predicting(example: Explained, rows: Tensor) -> Tensor:
    """The rows of a map of all rows that predict the reply, (token, position)."""
    return rows[torch.tensor(list(example.question.positions)) - 1]


def attention(example: Explained) -> Maps:
    """Attention of the rows that predict the reply, mean over heads and layers of the tower that writes."""
    found = patterns_of(example)
    rows: dict[str, list[Tensor]] = {}
    for site, pattern in found.by_site.items():
        if site.tower == example.question.tower:
            rows.setdefault(found.source_of(site), []).append(predicting(example, pattern[0].float().mean(0)))
    return {tower: torch.stack(parts).mean(0) for tower, parts in rows.items()}


def rollout(example: Explained) -> Maps:
    """Attention rollout, see `headwise.functional.relevancy.rollout`."""
    return _through(example, roll_out)


def flow(example: Explained) -> Maps:
    """Attention flow of Abnar & Zuidema 2020: the largest flow from a row to a position, rows scaled to sum to 1.

    Raises:
        InputError: there are more than 40 positions.
    """
    rows = torch.tensor(list(example.question.positions)) - 1
    return _through(example, lambda steps, source: largest_flows(steps, source, rows.tolist()))


def _through(example: Explained, through: Through) -> Maps:
    found = patterns_of(example)
    means = {site: pattern[0].float().mean(0) for site, pattern in found.by_site.items()}
    return {tower: predicting(example, rows) for tower, rows in found.map_of(through, means).items()}


def chefer(example: Explained) -> Maps:
    """Relevancy of Chefer et al. 2021, see `headwise.functional.relevancy.relevancy`."""
    require_slope(example)
    found = patterns_of(example, gradient=True)
    rows: dict[str, list[Tensor]] = {}
    for token, place in enumerate(example.question.positions):
        slopes = _slopes(found, found.by_site, token)
        means = {
            site: (pattern.detach()[0].float() * slopes[site][0].float()).relu().mean(0)
            for site, pattern in found.by_site.items()
        }
        for tower, relevancies in found.map_of(relevancy, means).items():
            row = relevancies[place - 1].clone()
            if tower == example.question.tower:
                row[place - 1] -= 1  # of the identity
            rows.setdefault(tower, []).append(row)
    return {tower: torch.stack(parts) for tower, parts in rows.items()}


def _slopes(found: Patterns, tensors: dict[Site, Tensor], token: int) -> dict[Site, Tensor]:
    return gradients(found.values[0, token], tensors, last=token == found.values.shape[1] - 1)


def attention_times_gradient(example: Explained) -> Maps:
    """Sum of A · dA over rows, heads and layers of the tower that writes, for every key; signed.

    Keys of cross-attention are positions of the encoder's output, whatever `at` of the example is.

    No pattern is formed: over the rows of a head the sum is ⟨v, df/dv⟩, exactly, so that the model keeps its fused
    kernel and memory grows with the length alone.
    """
    require_slope(example)
    question = example.question
    with (
        torch.enable_grad(),
        capture(question.subject, stats=False, gradients=True, sites={"tower": question.tower}) as trace,
    ):
        values, _ = replace(example, at="input").forward()
    graph = {site: record["v_heads"] for site, record in trace.records.items() if "v_heads" in record}
    found = Patterns(example, graph, values)
    rows: dict[str, list[Tensor]] = {}
    for token in range(values.shape[1]):
        sums: dict[str, Tensor] = {}
        for site, gradient in _slopes(found, graph, token).items():
            own = (graph[site].detach()[0].float() * gradient[0].float()).sum((0, -1))
            tower = found.source_of(site)
            sums[tower] = sums[tower] + own if tower in sums else own
        for tower, one in sums.items():
            rows.setdefault(tower, []).append(one)
    return {tower: torch.stack(parts) for tower, parts in rows.items()}
