"""How the metric changes with what each receiver reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.circuits.stream.events import hooked
from headwise.circuits.stream.graph import Read, StreamGraph
from headwise.circuits.stream.runs import column_weight, last_logits

Metric = Callable[[Float[Tensor, "row word"]], Float[Tensor, " row"]]


def slopes(
    model: Any,
    graph: StreamGraph,
    inputs: Mapping[str, Any],
    metric: Metric,
    instead: Mapping[nn.Module, Tensor],
) -> Iterator[tuple[int, Float[Tensor, "receiver row position width"]]]:
    """For every read, the gradient of a row's metric with respect to what each of its receivers takes from the stream.

    One forward and one backward for all of them. A gradient is that of the receiver's own copy of the stream: through
    its norm and its columns, and on through everything behind it.

    Args:
        model: the model.
        graph: its graph.
        inputs: of the forward.
        metric: of the last row of logits.
        instead: first layer of a tower -> what enters it; a module that writes -> what it gives.

    Yields:
        The number of the read and the gradients; nothing for a read that the metric does not depend on.
    """
    kept: dict[int, Tensor] = {}
    states: dict[nn.Module, Tensor] = {}
    with torch.enable_grad(), hooked(_hooks(graph, instead, kept, states)):
        values = metric(last_logits(model, inputs))
    gradients = torch.autograd.grad(values.sum(), list(kept.values()), allow_unused=True)
    own = {number: slope for number, slope in zip(kept, gradients, strict=True) if slope is not None}
    for together in _together(graph):
        numbers = [number for number in together if number in own]
        if not numbers:
            continue
        several = [_at_reader(graph.reads[number], own[number]) for number in numbers]
        norm = graph.reads[numbers[0]].norm
        joined = torch.cat(several)
        pulled = joined if norm is None else through_norm(norm, states[norm], joined)
        yield from zip(numbers, pulled.split([len(part) for part in several]), strict=True)


def through_norm(
    norm: nn.Module, stream: Tensor, gradients: Float[Tensor, "receiver row position width"]
) -> Float[Tensor, "receiver row position width"]:
    """Gradients behind a norm as gradients in front of it."""
    with torch.enable_grad():
        leaf = stream.detach().requires_grad_()
        output = norm.forward(leaf)
        return torch.autograd.grad(output, leaf, gradients.to(output), is_grads_batched=True)[0]


def _hooks(
    graph: StreamGraph,
    instead: Mapping[nn.Module, Tensor],
    kept: dict[int, Tensor],
    states: dict[nn.Module, Tensor],
) -> Iterator[tuple[nn.Module, str, Any]]:
    def start(module: nn.Module, given: Tensor) -> Tensor:
        return instead.get(module, given).detach().requires_grad_()

    def written(module: nn.Module, given: Tensor, output: Any) -> Any:
        new = instead[module].detach().requires_grad_()
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def state(module: nn.Module, given: Tensor) -> None:
        states[module] = given.detach()

    def enter(number: int) -> Callable[..., Tensor]:
        def keep(module: nn.Module, given: Tensor) -> Tensor:
            kept[number] = given.view_as(given)
            return kept[number]

        return keep

    def leave(number: int) -> Callable[..., None]:
        def keep(module: nn.Module, given: Tensor, output: Tensor) -> None:
            kept[number] = output

        return keep

    for block in graph.starts.values():
        yield block, "before", start
    for write in graph.writes:
        if write.module in instead:
            yield write.module, "after", written
    for norm in dict.fromkeys(read.norm for read in graph.reads):
        if norm is not None:
            yield norm, "before", state
    for number, read in enumerate(graph.reads):
        yield (
            (read.module, "before", enter(number))
            if read.columns is None
            else (read.module, "after", leave(number))
        )


def _together(graph: StreamGraph) -> list[list[int]]:
    """Reads behind one norm, which are taken through it side by side."""
    found: dict[Any, list[int]] = {}
    for number, read in enumerate(graph.reads):
        found.setdefault(number if read.norm is None else read.norm, []).append(number)
    return list(found.values())


def _at_reader(read: Read, gradient: Tensor) -> Float[Tensor, "receiver row position width"]:
    """A gradient at a module's output as one of its input for every receiver; one at its input as it is."""
    if read.columns is None:
        return gradient[None]
    parts: Sequence[Tensor] = [
        gradient[..., columns] @ column_weight(read.module, columns).T for columns in read.columns
    ]
    return torch.stack(parts).detach()
