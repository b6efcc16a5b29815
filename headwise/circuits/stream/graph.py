"""Writers and readers of the residual stream, by name and in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

LOGITS = "logits"


@dataclass(frozen=True, eq=False)
class Write:
    """What a module adds to the stream of a tower: the heads of a site, or an MLP."""

    names: tuple[str, ...]
    """Of the senders, such as `L0H1` or `mlp 0`."""
    tower: str
    module: nn.Module = field(repr=False)
    """The layer W_O, which is fed the heads' z, or the module whose output is added."""
    weight: Float[Tensor, "head width model_width"] | None = field(default=None, repr=False)
    """W_O per head; None for an MLP."""


@dataclass(frozen=True, eq=False)
class Read:
    """A module that reads the stream of a tower, for one receiver or for several, each of which has some columns."""

    names: tuple[tuple[str, str], ...]
    """Receivers: a node, and q, k, v or nothing. A key head that several heads share is `L0KV1`."""
    tower: str
    after: int
    """Writes that came before it, counted over all towers."""
    module: nn.Module = field(repr=False)
    norm: nn.Module | None = field(repr=False)
    """Between the stream and the module."""
    columns: tuple[Int[Tensor, " column"], ...] | None = field(default=None, repr=False)
    """Columns of the module's output for every receiver; None where the module has one."""


@dataclass(frozen=True, eq=False)
class StreamGraph:
    """Senders and receivers of a model.

    Senders are the input of every tower (embeddings, positions and pictures in them), heads (`L0H1`, of cross-attention
    `cross L0H1`, of an encoder `encoder L0H1`) and MLPs (`mlp 0`). Receivers are q of every head, k and v of every key
    head, MLPs, and the final norm in front of the logits.
    """

    starts: Mapping[str, nn.Module] = field(repr=False)
    """Tower -> its first layer."""
    writes: tuple[Write, ...] = field(repr=False)
    reads: tuple[Read, ...] = field(repr=False)

    @cached_property
    def senders(self) -> tuple[str, ...]:
        """Names, in order: the inputs of all towers, then what writes."""
        inputs = [input_name(tower, self.main) for tower in self.starts]
        return (*inputs, *(name for write in self.writes for name in write.names))

    @cached_property
    def receivers(self) -> tuple[tuple[str, str], ...]:
        """Node and input, in order; the logits are last."""
        return tuple(name for read in self.reads for name in read.names)

    @cached_property
    def main(self) -> str:
        """The tower that writes tokens."""
        return self.reads[-1].tower

    @cached_property
    def sender_towers(self) -> tuple[str, ...]:
        """The tower of every sender."""
        return (*self.starts, *(write.tower for write in self.writes for _ in write.names))

    @cached_property
    def first_sender(self) -> tuple[int, ...]:
        """The number of the first sender of every write."""
        found, at = [], len(self.starts)
        for write in self.writes:
            found.append(at)
            at += len(write.names)
        return tuple(found)

    @cached_property
    def first_receiver(self) -> tuple[int, ...]:
        """The number of the first receiver of every read."""
        found, at = [], 0
        for read in self.reads:
            found.append(at)
            at += len(read.names)
        return tuple(found)

    @cached_property
    def senders_of(self) -> tuple[tuple[int, ...], ...]:
        """For every receiver, the senders that compute from what it reads: those of a key head are its query heads."""
        number = {name: index for index, name in enumerate(self.senders)}
        found = []
        for read in self.reads:
            for place, (node, _) in enumerate(read.names):
                site, shared, _ = node.partition("KV")
                if not shared:
                    found.append((number[node],) if node in number else ())
                    continue
                heads = [name for name in self.senders if name.startswith(f"{site}H")]
                groups = len(heads) // len(read.names)
                found.append(tuple(number[name] for name in heads[place * groups : (place + 1) * groups]))
        return tuple(found)

    def senders_in(self, tower: str) -> list[int]:
        """The numbers of the senders of a tower."""
        return [number for number, own in enumerate(self.sender_towers) if own == tower]

    def heard(self, read: Read) -> list[int]:
        """The numbers of the senders that a read hears."""
        end = len(self.starts) + sum(len(write.names) for write in self.writes[: read.after])
        return [number for number in self.senders_in(read.tower) if number < end]

    @cached_property
    def edges(self) -> Bool[Tensor, "sender receiver"]:
        """True where there is an edge."""
        found = torch.zeros(len(self.senders), len(self.receivers), dtype=torch.bool)
        for read, first in zip(self.reads, self.first_receiver, strict=True):
            found[self.heard(read), first : first + len(read.names)] = True
        return found

    def __repr__(self) -> str:
        senders, receivers, edges = len(self.senders), len(self.receivers), int(self.edges.sum())
        return f"StreamGraph({senders} senders, {receivers} receivers, {edges} edges)"


def input_name(tower: str, main: str) -> str:
    """The name of what a tower begins with."""
    return "input" if tower == main else f"{tower} input"
