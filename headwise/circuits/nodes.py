"""Activations replaced one by one: what each head, layer or position is worth to a task, on any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.circuits.experiment import Experiment
from headwise.circuits.pairs import Batch
from headwise.circuits.patching import Direction
from headwise.circuits.stream.runs import last_logits
from headwise.errors import InputError
from headwise.fixes.edits.replace import Quantity, Replace
from headwise.fixes.patching import patch
from headwise.probes.attach.sites import Site
from headwise.probes.capture import capture

By = Literal["resample", "mean", "zero"]
_KEPT = {"q": "qkv", "k": "qkv", "v": "qkv", "z": "heads", "pattern": "maps", "residual": "residual"}
_FIELDS = {
    "q": "queries",
    "k": "keys",
    "v": "values",
    "z": "heads",
    "pattern": "maps",
    "residual": "residual",
}
_HEADS = {"q": 1, "k": 1, "v": 1, "pattern": 1, "z": 2}


@dataclass(frozen=True)
class Node:
    """What is replaced: a head, or a layer's whole residual; at every position, or at one."""

    site: Site
    head: int | None
    position: int | None = None


def node_patching(
    experiment: Experiment,
    quantity: Quantity = "z",
    *,
    direction: Direction = "noise",
    by: By = "resample",
    per_position: bool = False,
) -> dict[Node, float]:
    """Effect on the metric of replacing one activation, mean over pairs: metric with it less metric without.

    Args:
        experiment: model and task.
        quantity: z, q, k, v or pattern of a head (k and v of a key head), or the residual entering a layer.
        direction: `noise` runs the clean prompts, `denoise` the corrupted ones; the other ones give the values.
        by: `resample` takes the value from the other prompt of the pair, `mean` its mean over the other prompts of
            one shape, `zero` puts 0 (which a norm behind it takes for a signal: use it beside the others).
        per_position: one position at a time; all prompts must be of one length.

    Raises:
        InputError: positions of prompts that differ in length.
    """
    names = ("clean", "corrupted") if direction == "noise" else ("corrupted", "clean")
    if per_position and len({batch.shape for batch in experiment.batches()}) > 1:
        raise InputError(
            "Positions of prompts of several lengths are not alike.", remedy="Use prompts of one length."
        )
    means = _means(experiment, quantity, names[1]) if by == "mean" else {}
    total: dict[Node, float] = {}
    for batch in experiment.batches():
        here, there = (getattr(batch, name) for name in names)
        values = _recorded(experiment, quantity, there)
        plain = _metric(experiment, batch, here)
        for site, value in values.items():
            if by == "zero":
                value = torch.zeros_like(value)
            elif by == "mean":
                value = means[batch.shape, site]
            for node in _nodes(site, quantity, value, per_position=per_position):
                with patch(experiment.model, _fix(node, quantity, value), check=False):
                    change = _metric(experiment, batch, here) - plain
                total[node] = total.get(node, 0.0) + float(change.double().sum()) / len(experiment.pairs)
    return total


def _nodes(site: Site, quantity: str, value: Tensor, *, per_position: bool) -> list[Node]:
    axis = _HEADS.get(quantity)
    heads = [None] if axis is None else range(value.shape[axis])
    places = range(value.shape[1 if axis in (None, 2) else 2]) if per_position else [None]
    return [Node(site, head, place) for head in heads for place in places]


def _fix(node: Node, quantity: Quantity, value: Tensor) -> Replace:
    return Replace(
        quantity=quantity,
        layer=node.site.layer,
        value=value,
        heads=None if node.head is None else (node.head,),
        positions=None if node.position is None else (node.position,),
        tower=node.site.tower,
        kind=node.site.kind,
    )


def _recorded(experiment: Experiment, quantity: str, inputs: Mapping[str, Any]) -> dict[Site, Tensor]:
    options: dict[str, Any] = {_KEPT[quantity]: True}
    with torch.no_grad(), capture(experiment.model, stats=False, check=False, **options) as trace:
        last_logits(experiment.model, inputs)
    return dict(getattr(trace, _FIELDS[quantity]))


def _means(experiment: Experiment, quantity: str, which: str) -> dict[tuple[str, Site], Tensor]:
    sums: dict[tuple[str, Site], Tensor] = {}
    counts: dict[str, int] = {}
    for batch in experiment.batches():
        counts[batch.shape] = counts.get(batch.shape, 0) + len(batch)
        for site, value in _recorded(experiment, quantity, getattr(batch, which)).items():
            sums[batch.shape, site] = sums.get((batch.shape, site), torch.zeros(1)) + value.sum(
                0, keepdim=True
            )
    return {key: value / counts[key[0]] for key, value in sums.items()}


def _metric(experiment: Experiment, batch: Batch, inputs: Mapping[str, Any]) -> Float[Tensor, " pair"]:
    with torch.no_grad():
        return experiment.values(last_logits(experiment.model, inputs), batch)
