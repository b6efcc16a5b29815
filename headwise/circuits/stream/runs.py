"""Runs of a model that record what is written to its streams, or in which receivers read something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headwise.circuits.stream.events import hooked
from headwise.circuits.stream.graph import Read, StreamGraph, Write

Writes = list[Float[Tensor, "_ _ width"]]
"""What every sender writes, in the order of the graph."""
Change = tuple[int, Any, Tensor]
"""Of a read: number of a receiver among its own, rows of the batch, and what is added to what it reads there."""


def head_writes(write: Write, z: Tensor) -> Float[Tensor, "head row position width"]:
    """What every head of a site adds to the stream."""
    assert write.weight is not None
    heads = z.unflatten(-1, write.weight.shape[:2])
    return torch.einsum("bthw,hwd->hbtd", heads, write.weight.to(z.dtype))


def recording(graph: StreamGraph, writes: Writes) -> Iterator[tuple[nn.Module, str, Any]]:
    """Hooks that put what every sender writes into `writes`, which is empty, in the order of the graph."""
    writes.extend([torch.empty(0)] * len(graph.senders))

    def start(number: int) -> Callable[..., None]:
        def keep(module: nn.Module, given: Tensor) -> None:
            writes[number] = given

        return keep

    def heads(write: Write, first: int) -> Callable[..., None]:
        def keep(module: nn.Module, given: Tensor) -> None:
            writes[first : first + len(write.names)] = head_writes(write, given).unbind(0)

        return keep

    def whole(first: int) -> Callable[..., None]:
        def keep(module: nn.Module, given: Tensor, output: Any) -> None:
            writes[first] = output[0] if isinstance(output, tuple) else output

        return keep

    for number, block in enumerate(graph.starts.values()):
        yield block, "before", start(number)
    for write, first in zip(graph.writes, graph.first_sender, strict=True):
        if write.weight is None:
            yield write.module, "after", whole(first)
        else:
            yield write.module, "before", heads(write, first)


def reading(
    graph: StreamGraph, changes: Callable[[int], Sequence[Change]]
) -> Iterator[tuple[nn.Module, str, Any]]:
    """Hooks that add to what receivers read, before the norm; `changes` of the number of a read."""
    states: dict[nn.Module, Tensor] = {}

    def state(module: nn.Module, given: Tensor) -> None:
        states[module] = given

    def enter(number: int, read: Read) -> Callable[..., Tensor | None]:
        def change(module: nn.Module, given: Tensor) -> Tensor | None:
            found = changes(number)
            if not found:
                return None
            new = given.clone()
            for _, rows, added in found:
                stream = given if read.norm is None else states[read.norm]
                new[rows] = normed(read.norm, stream[rows] + added)
            return new

        return change

    def leave(number: int, read: Read) -> Callable[..., Tensor | None]:
        def change(module: nn.Module, given: Tensor, output: Tensor) -> Tensor | None:
            found = changes(number)
            if not found:
                return None
            new = output.clone()
            for receiver, rows, added in found:
                assert read.columns is not None
                stream = given if read.norm is None else states[read.norm]
                columns = read.columns[receiver]
                part = new[rows]
                part[..., columns] = column_outputs(module, normed(read.norm, stream[rows] + added), columns)
                new[rows] = part
            return new

        return change

    for norm in dict.fromkeys(read.norm for read in graph.reads):
        if norm is not None:
            yield norm, "before", state
    for number, read in enumerate(graph.reads):
        if read.columns is None:
            yield read.module, "before", enter(number, read)
        else:
            yield read.module, "after", leave(number, read)


def normed(norm: nn.Module | None, stream: Tensor) -> Tensor:
    """What a norm makes of a stream, without its hooks."""
    return stream if norm is None else norm.forward(stream)


def column_weight(module: Any, columns: Int[Tensor, " column"]) -> Float[Tensor, "fed column"]:
    """Columns of a linear layer."""
    if type(module).__name__ == "Conv1D":
        return module.weight[:, columns]
    return module.weight[columns].T


def column_outputs(module: Any, given: Tensor, columns: Int[Tensor, " column"]) -> Tensor:
    """Some columns of what a linear layer gives."""
    found = given @ column_weight(module, columns)
    return found if module.bias is None else found + module.bias[columns]


@dataclass(eq=False)
class Differences:
    """What senders write in the corrupted run less what they write now, filled in while a forward goes on."""

    graph: StreamGraph
    corrupted: Writes
    places: Int[Tensor, " row"] | None = None
    """The row of `corrupted` for every row of the batch; the same one when None."""
    writes: Writes = field(default_factory=list)
    """Of this forward so far."""

    def of(
        self, senders: Sequence[int], rows: Any = slice(None)
    ) -> Float[Tensor, "sender row position width"]:
        """The differences of some senders, which have written, in some rows of the batch."""
        there = [self.corrupted[number] for number in senders]
        if self.places is not None:
            there = [part[self.places[rows]] for part in there]
        elif not isinstance(rows, slice):
            there = [part[rows] for part in there]
        return torch.stack([a - self.writes[number][rows] for a, number in zip(there, senders, strict=True)])


def record(model: Any, graph: StreamGraph, inputs: Mapping[str, Any]) -> tuple[Writes, Tensor]:
    """What every sender writes in a forward, and the last row of logits."""
    writes: Writes = []
    with torch.no_grad(), hooked(recording(graph, writes)):
        logits = last_logits(model, inputs)
    return writes, logits


def run_mask(
    model: Any,
    graph: StreamGraph,
    inputs: Mapping[str, Any],
    corrupted: Writes,
    mask: Float[Tensor, "sender receiver"],
) -> Float[Tensor, "row word"]:
    """The last row of logits when every edge with 1 in `mask` carries what its sender writes in the corrupted run.

    All else is computed anew: what a sender writes depends on what reached it.
    """
    differences = Differences(graph, corrupted)

    def changes(number: int) -> list[Change]:
        read, first = graph.reads[number], graph.first_receiver[number]
        own = mask[:, first : first + len(read.names)]
        senders = own.any(1).nonzero()[:, 0].tolist()
        if not senders:
            return []
        added = torch.einsum(
            "sr,sbtd->rbtd", own[senders].to(differences.corrupted[0]), differences.of(senders)
        )
        return [(receiver, slice(None), added[receiver]) for receiver in own.any(0).nonzero()[:, 0].tolist()]

    return _run_changed(model, inputs, differences, changes)


def run_edges(
    model: Any,
    graph: StreamGraph,
    inputs: Mapping[str, Any],
    corrupted: Writes,
    edges: Int[Tensor, "row 2"],
    places: Int[Tensor, " row"],
) -> Float[Tensor, "row word"]:
    """The last row of logits, with one edge of every row carrying what its sender writes in the corrupted run.

    Args:
        model: the model.
        graph: its graph.
        inputs: a batch.
        corrupted: what senders write in the corrupted run.
        edges: sender and receiver of every row, by number.
        places: the row of `corrupted` that belongs to every row of the batch.
    """
    differences = Differences(graph, corrupted, places)
    by_receiver: dict[int, list[int]] = {}
    for row, receiver in enumerate(edges[:, 1].tolist()):
        by_receiver.setdefault(receiver, []).append(row)

    def changes(number: int) -> list[Change]:
        first = graph.first_receiver[number]
        found: list[Change] = []
        for receiver in range(len(graph.reads[number].names)):
            rows = by_receiver.get(first + receiver, [])
            for sender in dict.fromkeys(edges[rows, 0].tolist()):
                own = torch.tensor([row for row in rows if int(edges[row, 0]) == sender])
                found.append((receiver, own, differences.of([sender], own)[0]))
        return found

    return _run_changed(model, inputs, differences, changes)


def _run_changed(
    model: Any,
    inputs: Mapping[str, Any],
    differences: Differences,
    changes: Callable[[int], list[Change]],
) -> Float[Tensor, "row word"]:
    hooks = [*recording(differences.graph, differences.writes), *reading(differences.graph, changes)]
    with torch.no_grad(), hooked(hooks):
        return last_logits(model, inputs)


def last_logits(model: Any, inputs: Mapping[str, Any]) -> Float[Tensor, "row word"]:
    """Logits of the last position."""
    return model(**inputs).logits[:, -1]
