"""Which sequences a beam search returned, and the rows that were recorded on the way to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwise.layout import Axis, TokenLayout
from headwise.probes.trace import nonfinite
from headwise.probes.trace.fields import FIELDS, Record, merge_layouts, merge_records

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.probes.generation.generation import Run
    from headwise.probes.trace.buffer import Buffer

UNDECIDED = (
    "It cannot be told which beams of a search were returned (so it is with a prompt of embeddings): every beam is "
    "kept as an example, in the order in which the search left them."
)


@dataclass(frozen=True)
class RunResult:
    """What was recorded in one run."""

    records: dict[Site, Record]
    layout: TokenLayout
    returned: list[int] | None
    """Which of its examples are the sequences that were returned; None for all."""
    counts: nonfinite.Counts
    """Numbers that are not there."""

    def select(self, index: Tensor, examples: int) -> RunResult:
        """What was recorded of some of the examples that went in; beams are copies of one side by side."""

        def chosen(count: int) -> Tensor:
            copies = max(1, count // examples)
            return (index[:, None] * copies + torch.arange(copies)).flatten()

        records: dict[Site, Record] = {
            site: {
                name: value[chosen(len(value)).to(value.device)] if FIELDS[name][0] == "example" else value
                for name, value in record.items()
            }
            for site, record in self.records.items()
        }
        axes = {stack: axis.select(chosen(len(axis.roles))) for stack, axis in self.layout.axes.items()}
        returned = self.returned
        if returned is not None:
            number = max(len(axis.roles) for axis in self.layout.axes.values())
            places = {old: new for new, old in enumerate(chosen(number).tolist())}
            returned = [places[old] for old in returned if old in places]
        return RunResult(records, TokenLayout(axes), returned, self.counts)


def computed(buffers: Mapping[Site, Buffer]) -> tuple[dict[Site, Record], nonfinite.Counts]:
    """The records of buffers, and how many of their numbers are not finite."""
    records: dict[Site, Record] = {site: buffer.compute() for site, buffer in buffers.items() if buffer}
    counts: nonfinite.Counts = {}
    for site, record in records.items():
        nonfinite.add(counts, site, nonfinite.count(record, buffers[site].valid()))
    return records, counts


@dataclass(frozen=True)
class Hypothesis:
    """One beam as it stood when it was complete, or when the search ended."""

    ids: tuple[int, ...]
    """Ids of the sequence, those of the prompt included."""
    prompt: int
    """How many of them are the prompt's."""
    row: int
    """Its place among the beams of all examples."""
    axis: Axis
    """The language stack as far as it was fed, every beam."""
    buffers: Mapping[Site, Buffer]
    """Records of the language stack, every beam."""

    @property
    def fed(self) -> list[int]:
        """Ids that the model was fed."""
        return [] if self.axis.ids is None else self.axis.ids[self.row].tolist()

    def result(self) -> RunResult:
        """What was recorded of this beam."""
        alone = {site: buffer.fork() for site, buffer in self.buffers.items()}
        for buffer in alone.values():
            buffer.reorder(torch.tensor([self.row]))
        layout = TokenLayout({self.axis.stack: self.axis.select(torch.tensor([self.row]))})
        records, counts = computed(alone)
        return RunResult(records, layout, None, counts)


class BeamSearch:
    """The beam search of one run: what it completed, and which of it `generate` returned."""

    def __init__(self, run: Run, beams: int) -> None:
        self._run, self._beams = run, beams
        self._once_read = frozenset(run.stacks)
        """Stacks that were read before `generate` copied the examples: their rows are no copies."""
        self._complete: list[list[Hypothesis]] = []
        self._returned: list[list[Hypothesis]] | None = None

    def decide(self, ids: Tensor, done: Tensor) -> None:
        """The stopping criteria have decided which candidates, the best of every example first, are complete."""
        axis = self._run.layout().axes.get(self._run.language)
        if axis is None or axis.ids is None or not bool(done.any()):
            return
        examples = len(axis.ids) // self._beams
        width, fed = len(ids) // examples, ids.shape[1] - 1
        hidden = axis.ids.shape[1] - fed  # positions of a prompt that was given as embeddings
        if hidden < 0 or width <= self._beams:
            return
        self._complete = self._complete or [[] for _ in range(examples)]
        buffers = self._buffers()
        for candidate in done.nonzero()[:, 0].tolist():
            example, rank = divmod(candidate, width)
            if rank < self._beams:  # a search completes none that ranks behind its beams
                sequence = ids[candidate].cpu()
                rows = range(example * self._beams, (example + 1) * self._beams)
                row = next((b for b in rows if bool((axis.ids[b, hidden:] == sequence[:-1]).all())), None)
                if row is not None:
                    prompt = max(0, self._run.prompt - hidden)
                    hypothesis = Hypothesis(tuple(sequence.tolist()), prompt, row, axis, buffers)
                    self._complete[example].append(hypothesis)

    def close(self, sequences: Tensor | None) -> None:
        """The call of `generate` is over and has returned these sequences."""
        if sequences is not None and self._complete and not len(sequences) % len(self._complete):
            each = len(sequences) // len(self._complete)
            rows = sequences.tolist()
            chosen = [
                [_behind(row, found) for row in rows[example * each : (example + 1) * each]]
                for example, found in enumerate(self._complete)
            ]
            if all(hypothesis is not None for group in chosen for hypothesis in group):
                self._returned = [[h for h in group if h is not None] for group in chosen]
        self._complete = []

    @property
    def known(self) -> bool:
        """True when it is known which beams were returned."""
        return self._returned is not None

    def results(self, *, every: bool) -> RunResult:
        """The returned sequences, example by example.

        With `every`, the beams that were running when the search ended stand behind the returned ones of their
        example, as many as there are beams.
        """
        assert self._returned is not None
        run, groups, returned = self._run, [], []
        layout = run.layout()
        for example, group in enumerate(self._returned):
            returned += [len(groups) + place for place in range(len(group))]
            groups += group
            if every:
                groups += self._running(example, layout)[: self._beams - len(group)]
        parts = [hypothesis.result() for hypothesis in groups]
        others = {site: buffer for site, buffer in run.buffers.items() if site.stack != run.language}
        records, counts = computed(others)
        records = {
            site: record if site.stack in self._once_read else self._record_once(record)
            for site, record in records.items()
        }
        records |= merge_records([part.records for part in parts])
        for part in parts:
            for (site, what), count in part.counts.items():
                nonfinite.add(counts, site, {what: count})
        axes = {stack: self._once(axis) for stack, axis in layout.axes.items() if stack != run.language}
        axes |= merge_layouts([part.layout for part in parts]).axes
        records = {site: records[site] for site in run.buffers if site in records}
        return RunResult(records, TokenLayout(axes), returned, counts)

    def _running(self, example: int, layout: TokenLayout) -> list[Hypothesis]:
        assert self._returned is not None
        axis, buffers = layout.axes[self._run.language], self._buffers()
        beams = [
            Hypothesis((), 0, row, axis, buffers)
            for row in range(example * self._beams, (example + 1) * self._beams)
        ]
        returned = [hypothesis.fed for hypothesis in self._returned[example]]
        return [beam for beam in beams if beam.fed not in returned]

    def _buffers(self) -> dict[Site, Buffer]:
        language = self._run.language
        return {site: buffer.fork() for site, buffer in self._run.buffers.items() if site.stack == language}

    def _once(self, axis: Axis) -> Axis:
        """An axis of another stack without the copies that a search makes of its examples."""
        if axis.stack in self._once_read or len(axis.roles) != self._size():
            return axis
        return axis.select(torch.arange(0, len(axis.roles), self._beams))

    def _record_once(self, record: Record) -> Record:
        size = self._size()
        return {
            name: value[:: self._beams] if FIELDS[name][0] == "example" and len(value) == size else value
            for name, value in record.items()
        }

    def _size(self) -> int:
        assert self._returned is not None
        return len(self._returned) * self._beams


def _behind(sequence: list[int], hypotheses: Iterable[Hypothesis]) -> Hypothesis | None:
    """The hypothesis that became a returned sequence.

    The sequence is the hypothesis and filling; or, where `generate` joins windows and cuts prompts and end tokens off,
    it contains what the hypothesis generated.
    """
    held = list(hypotheses)
    fitting = [h for h in held if _begins(sequence, h.ids)] or [
        h for h in held if _contains(sequence, h.ids[h.prompt : -1])
    ]
    return max(fitting, key=lambda hypothesis: len(hypothesis.ids), default=None)


def _begins(sequence: Sequence[int], ids: Sequence[int]) -> bool:
    return tuple(sequence[: len(ids)]) == tuple(ids) and len(set(sequence[len(ids) :])) <= 1


def _contains(sequence: Sequence[int], ids: Sequence[int]) -> bool:
    starts = range(len(sequence) - len(ids) + 1) if ids else ()
    return any(tuple(sequence[start : start + len(ids)]) == tuple(ids) for start in starts)
