"""A circuit: the edges that carry a task, with all scores and what is needed to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headwise.circuits.selection import Kept
from headwise.circuits.stream.graph import StreamGraph
from headwise.errors import InputError
from headwise.results.result import Result, load_result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Edge = tuple[str, str, str]
"""Sender, receiver, and its input: q, k, v or nothing."""
COLUMNS = ("sender", "receiver", "input", "score", "kept")
SIGN = "metric with the sender's corrupted value on the edge, less metric without; negative: the edge serves the answer"
CONVENTION = ("model", "fingerprint", "metric", "sign", "granularity")
"""What two circuits must share before they are compared."""
ABOUT: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("task", "metric", "corruption", "sign", "method", "fingerprint", "granularity"), str),
    "pairs": int,
    **dict.fromkeys(("clean", "corrupted", "faithfulness"), (int, float)),
}


@dataclass(frozen=True, eq=False)
class Circuit:
    """The result of `hw.analyses.circuit`, read as a circuit.

    Raises:
        InputError: the result is no circuit.
    """

    result: Result = field(repr=False)

    def __post_init__(self) -> None:
        about = self.result.provenance.get("circuit")
        if self.result.kind != "edges" or not isinstance(about, Mapping):
            raise InputError(
                "This result is no circuit.",
                evidence=f"it is {self.result.name!r}, of kind {self.result.kind!r}",
                remedy="Give what hw.analyses.circuit found.",
            )
        wrong = [name for name, kind in ABOUT.items() if not isinstance(about.get(name), kind)]
        wrong += [name for name in COLUMNS if name not in self.result.frame]
        if wrong:
            raise InputError("This circuit is incomplete.", evidence=f"it lacks {', '.join(wrong)}")

    @property
    def about(self) -> Mapping[str, Any]:
        """Task, metric, corruption, sign convention, method, fingerprint of the model, and how much it restores."""
        return self.result.provenance["circuit"]

    @cached_property
    def scores(self) -> dict[Edge, float]:
        """The score of every edge of the model."""
        frame = self.result.frame
        names = zip(frame["sender"], frame["receiver"], frame["input"], strict=True)
        return dict(zip(names, map(float, frame["score"]), strict=True))

    @cached_property
    def edges(self) -> frozenset[Edge]:
        """The edges of the circuit."""
        frame = self.result.frame[self.result.frame["kept"]]
        return frozenset(zip(frame["sender"], frame["receiver"], frame["input"], strict=True))

    @cached_property
    def nodes(self) -> frozenset[str]:
        """What writes in the circuit: inputs, heads, MLPs."""
        return frozenset(sender for sender, _, _ in self.edges)

    @property
    def heads(self) -> frozenset[str]:
        """The heads among them."""
        return frozenset(name for name in self.nodes if "H" in name)

    def kept(self, graph: StreamGraph) -> Kept:
        """The circuit as edges of a graph.

        Raises:
            InputError: the graph is that of another model.
        """
        senders = {name: number for number, name in enumerate(graph.senders)}
        receivers = {name: number for number, name in enumerate(graph.receivers)}
        found = torch.zeros_like(graph.edges)
        for sender, receiver, given in self.edges:
            if sender not in senders or (receiver, given) not in receivers:
                raise InputError(
                    "This circuit is of another model.",
                    evidence=f"the model has no edge {sender} → {receiver} {given}".rstrip(),
                    remedy="Use the model that it was found in.",
                )
            found[senders[sender], receivers[receiver, given]] = True
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row per edge of the model: sender, receiver, input, score, and whether it is kept."""
        return self.result.frame

    def plot(self) -> go.Figure:
        """The kept edges as a layered graph."""
        return self.result.plot()

    def save(self, path: str | Path) -> Path:
        """Write it, see `Result.save`."""
        return self.result.save(path)

    def __repr__(self) -> str:
        return f"Circuit({self.about['task']}: {len(self.edges)} edges, {len(self.heads)} heads)"


def load_circuit(path: str | Path) -> Circuit:
    """Read a circuit from the file of its result.

    Raises:
        InputError: as `hw.load_result`, or the result is no circuit.
    """
    return Circuit(load_result(path))


def require_same_convention(one: Circuit, other: Circuit) -> None:
    """Refuse two circuits whose scores do not mean the same.

    Raises:
        InputError: they are of different models, metrics or signs.
    """
    for name in CONVENTION:
        first, second = ({**circuit.result.provenance, **circuit.about}.get(name) for circuit in (one, other))
        if first != second:
            raise InputError(
                f"These circuits differ in their {name}, so that they cannot be compared.",
                evidence=f"{first!r} and {second!r}",
                remedy="Find both in one model, with one metric.",
            )


def circuit_frame(graph: StreamGraph, scores: torch.Tensor, kept: Kept) -> pd.DataFrame:
    """The table of a circuit."""
    from pandas import DataFrame

    places = graph.edges.nonzero()
    rows, columns = places.unbind(1)
    return DataFrame(
        {
            "sender": [graph.senders[row] for row in rows.tolist()],
            "receiver": [graph.receivers[column][0] for column in columns.tolist()],
            "input": [graph.receivers[column][1] for column in columns.tolist()],
            "score": scores[rows, columns].tolist(),
            "kept": kept[rows, columns].tolist(),
        }
    )
