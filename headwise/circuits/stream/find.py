"""The graph of a model, found by running it once: what a module is given and gives says who reads and who writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.circuits.stream.events import Event, events
from headwise.circuits.stream.graph import LOGITS, Read, StreamGraph, Write
from headwise.errors import UnsupportedModel
from headwise.fixes.patching import patch
from headwise.probes.attach.sites import AttentionModule, Site, attention_modules, language_tower
from headwise.probes.projection import Projection, output_projections
from headwise.text import head_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.context import Context


def stream_graph(model: PreTrainedModel, inputs: Mapping[str, Any]) -> StreamGraph:
    """Writers and readers of the residual streams of the tower that writes tokens, and of an encoder that it hears.

    A tower of vision counts as part of the input. Layers must add to the stream what they write, behind a norm in
    front or none: models that norm what they write (Gemma 2 and 3), or the sum (BERT, BART, Marian), have no such
    graph, and neither have those that use one module for all layers (ALBERT).

    Args:
        model: in evaluation mode.
        inputs: of its forward, one example.

    Raises:
        UnsupportedModel: it has no such graph; the layer and the reason are named.

    Example:
        >>> from headwise.testing import tiny_model
        >>> stream_graph(tiny_model("llama"), {"input_ids": torch.tensor([[5, 6, 7]])})
        StreamGraph(11 senders, 19 receivers, 82 edges)
    """
    probe = _Probe.run(model, inputs)
    return _Walk(model, probe).graph()


@dataclass(frozen=True, kw_only=True)
class _Watch:
    """A fix that changes nothing and keeps the queries, keys and values of every site with their graph."""

    tower: str
    kind: str
    found: dict[Site, tuple[Tensor, Tensor, Tensor]] = field(repr=False)

    def edit_qkv(
        self, q: Tensor, k: Tensor, v: Tensor, site: Site, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What it was given."""
        self.found[site] = (q, k, v)
        return q, k, v


@dataclass(frozen=True, eq=False)
class _Probe:
    """One forward, with gradients: what every module was given and gave, and what reached the attention."""

    events: list[Event]
    qkv: dict[Site, tuple[Tensor, Tensor, Tensor]]
    projections: dict[Site, Projection]

    @classmethod
    def run(cls, model: Any, inputs: Mapping[str, Any]) -> _Probe:
        found: dict[Site, tuple[Tensor, Tensor, Tensor]] = {}
        kinds = dict.fromkeys((entry.tower, entry.kind) for entry in attention_modules(model))
        watches = [_Watch(tower=tower, kind=kind, found=found) for tower, kind in kinds]
        projections, _ = output_projections(model, inputs)
        with torch.enable_grad(), patch(model, watches, check=False), events(model) as calls:
            model(**inputs)
        return cls(calls, found, projections)

    def of(self, module: nn.Module) -> Event:
        """The one call of a module."""
        return next(event for event in self.events if event.module is module)

    def source(self, given: Tensor) -> Event | None:
        """The innermost call whose output this very tensor is."""
        return next((event for event in self.events if event.output is given), None)


class _Walk:
    """Goes through the layers of the towers in their order."""

    def __init__(self, model: PreTrainedModel, probe: _Probe) -> None:
        self.model, self.probe = model, probe
        entries = attention_modules(model)
        towers = list(dict.fromkeys(entry.tower for entry in entries))
        self.main = language_tower(towers)
        heard = ["encoder"] if self.main == "decoder" and "encoder" in towers else []
        self.towers = [*heard, self.main]
        self.entries = [entry for entry in entries if entry.tower in self.towers]
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self.starts: dict[str, nn.Module] = {}
        self.ends: dict[str, Tensor] = {}
        self.modules = dict(model.named_modules())

    def graph(self) -> StreamGraph:
        for tower in self.towers:
            for layer, (block, entries) in enumerate(self._blocks(tower).items()):
                self.starts.setdefault(tower, self.modules[block])
                self._layer(tower, layer, block, entries)
        end = self.ends[self.main]
        norm = next((event for event in self.probe.events if self._inside(event, end)), None)
        if norm is None:
            raise self._no(self.main, "what reads the end of the stream was not found")
        self.reads.append(Read(((LOGITS, ""),), self.main, len(self.writes), norm.module, None))
        return StreamGraph(self.starts, tuple(self.writes), tuple(self.reads))

    def _inside(self, event: Event, end: Tensor) -> bool:
        return event.given is end and event.output is not end

    def _blocks(self, tower: str) -> dict[str, list[AttentionModule]]:
        found: dict[str, list[AttentionModule]] = {}
        for entry in self.entries:
            if entry.tower != tower:
                continue
            if entry.shared:
                raise self._no(entry.name, "one module serves all layers")
            found.setdefault(entry.block, []).append(entry)
        return {
            block: sorted(several, key=lambda entry: entry.kind != "self") for block, several in found.items()
        }

    def _layer(self, tower: str, layer: int, block: str, entries: Sequence[AttentionModule]) -> None:
        event = self.probe.of(self.modules[block])
        given = self.ends.get(tower)
        if given is not None and given is not event.given and not torch.equal(given, event.given):
            raise self._no(block, "something changes the stream between two layers")
        stream, states = event.given, [event.given]
        for entry in entries:
            site = entry.site(0)
            projection = self.probe.projections.get(site)
            if projection is None or site not in self.probe.qkv:
                raise self._no(entry.name, "its heads are not fed to one linear layer, or out of reach")
            self._reads_of(entry, site, tower, states)
            written = self.probe.of(self.modules[projection.name]).output
            stream = stream + written
            states.append(stream)
            names = tuple(_head(tower, self.main, entry, head) for head in range(len(projection.weight)))
            self.writes.append(Write(names, tower, self.modules[projection.name], projection.weight))
        if not _near(stream, event.output, event.output):
            self._mlp(tower, layer, block, entries, states, event.output)
        self.ends[tower] = event.output

    def _mlp(
        self,
        tower: str,
        layer: int,
        block: str,
        entries: Sequence[AttentionModule],
        states: Sequence[Tensor],
        total: Tensor,
    ) -> None:
        """The module whose output is what the layer writes beside its attention, and the one that reads for it."""
        rest = total - states[-1]
        inner = [
            event
            for event in self.probe.events
            if event.name.startswith(f"{block}.")
            and not any(
                event.name == entry.name or event.name.startswith(f"{entry.name}.") for entry in entries
            )
        ]
        writer = _outermost(event for event in inner if _near(event.output, rest, total))
        if writer is None:
            raise self._no(
                block,
                "its MLP does not add to the stream what it gives, or its attention is normed before it does",
            )
        for norm in inner:
            if any(_near(norm.given, state, state) for state in states):
                found = _outermost(e for e in inner if e.given is norm.output and e.module is not norm.module)
                if found is not None:
                    before = len(self.writes)
                    if _near(norm.given, states[0], states[0]):  # beside the attention
                        before -= len(entries)
                    name = f"mlp {layer}" if tower == self.main else f"{tower} mlp {layer}"
                    self.reads.append(Read(((name, ""),), tower, before, found.module, norm.module))
                    self.writes.append(Write((name,), tower, writer.module))
                    return
        raise self._no(block, "no norm stands between the stream and its MLP")

    def _reads_of(self, entry: AttentionModule, site: Site, tower: str, states: Sequence[Tensor]) -> None:
        """The linear layers that make queries, keys and values, with the columns of every head."""
        linear = [
            event
            for event in self.probe.events
            if event.name.startswith(f"{entry.name}.")
            and event.output.requires_grad
            and _is_linear(event.module)
        ]
        heads = self.probe.qkv[site][0].shape[1]
        for part, values in zip("qkv", self.probe.qkv[site], strict=True):
            event, columns = self._columns(entry, values, linear)
            grouped = part != "q" and values.shape[1] < heads
            names = tuple(
                (_head(tower, self.main, entry, head, "KV" if grouped else "H"), part)
                for head in range(values.shape[1])
            )
            norm, source, after = self._stream_of(entry, event, tower, states)
            self.reads.append(Read(names, source, after, event.module, norm, columns))

    def _stream_of(
        self, entry: AttentionModule, event: Event, tower: str, states: Sequence[Tensor]
    ) -> tuple[nn.Module | None, str, int]:
        """The norm in front of a linear layer, the tower that it hears, and the writes that came before."""
        norm = self.probe.source(event.given)
        now = len(self.writes)
        if norm is not None and _near(norm.given, states[-1], states[-1]):
            return norm.module, tower, now
        for other, end in self.ends.items():
            if other != tower:
                if event.given is end or torch.equal(event.given, end):
                    return None, other, now
                norm = next((e for e in self.probe.events if self._inside(e, end)), None)
                if norm is not None and torch.equal(norm.output, event.given):
                    return norm.module, other, now
        raise self._no(entry.name, "no norm alone stands between the stream and its queries, keys or values")

    def _columns(
        self, entry: AttentionModule, values: Tensor, linear: Sequence[Event]
    ) -> tuple[Event, tuple[Tensor, ...]]:
        """The layer that makes some values, and its columns for every head: those with a gradient."""
        outputs = [event.output for event in linear]
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(values[:, 0].shape, generator=generator).to(values)
        found: list[tuple[int, Tensor]] = []
        for head in range(values.shape[1]):
            slopes = torch.autograd.grad(
                (values[:, head] * weights).sum(), outputs, retain_graph=True, allow_unused=True
            )
            used = [(n, slope) for n, slope in enumerate(slopes) if slope is not None and bool(slope.any())]
            if len(used) != 1:
                raise self._no(entry.name, f"a head is made by {len(used)} linear layers")
            number, slope = used[0]
            found.append((number, slope.flatten(0, -2).any(0).nonzero()[:, 0]))
        layers, columns = {number for number, _ in found}, [column for _, column in found]
        if len(layers) > 1 or len(torch.cat(columns).unique()) < sum(map(len, columns)):
            raise self._no(
                entry.name, "its heads are normed together, so that none can be told from the others"
            )
        return linear[layers.pop()], tuple(columns)

    def _no(self, where: str, reason: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"The residual stream of {type(self.model).__name__} is no sum that edges could be told in.",
            evidence=f"{where}: {reason}",
            remedy="Use methods of nodes: hw.analyses.activation_patching.",
        )


def _near(one: Tensor, other: Tensor, size: Tensor) -> bool:
    """Equal up to the rounding of sums whose terms are as large as `size`."""
    if one.shape != other.shape:
        return False
    one, other, size = (tensor.detach() for tensor in (one, other, size))
    allowed = 32 * torch.finfo(one.dtype).eps * (size.abs() + other.abs())
    return bool(((one - other).abs() <= allowed).all())


def _outermost(found: Iterator[Event] | Any) -> Event | None:
    return min(found, key=lambda event: event.name.count("."), default=None)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _head(tower: str, main: str, entry: AttentionModule, head: int, letter: str = "H") -> str:
    name = head_name(entry.layer, head).replace("H", letter)
    prefix = "cross" if entry.kind == "cross" else "" if tower == main else tower
    return f"{prefix} {name}".strip()
