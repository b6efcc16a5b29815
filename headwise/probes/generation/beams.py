"""Sequences that a beam search returned, and the rows that were recorded on the way to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwise.layout import Axis, TokenLayout
from headwise.probes.generation.results import RunResult, computed
from headwise.probes.trace import nonfinite
from headwise.probes.trace.fields import FIELDS, Record, merge_layouts, merge_records

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.buffer import Buffer

UNDECIDED = (
    "It cannot be told which beams of a search were returned (so it is with a prompt of embeddings): every beam is "
    "kept as an example, in the order in which the search left them."
)


@dataclass(frozen=True)
class Hypothesis:
    """One beam as it stood when it was complete, or when the search ended."""

    ids: tuple[int, ...]
    """Ids of the sequence, those of the prompt included."""
    prompt: int
    """Number of ids of the prompt among them."""
    row: int
    """Its place among the beams of all examples."""
    axis: Axis
    """The language tower as far as it was fed, every beam."""
    buffers: Mapping[Site, Buffer]
    """Records of the language tower, every beam."""

    @property
    def fed(self) -> list[int]:
        """Ids that the model was fed."""
        return [] if self.axis.ids is None else self.axis.ids[self.row].tolist()

    def result(self) -> RunResult:
        """Records of this beam."""
        alone = {site: buffer.fork() for site, buffer in self.buffers.items()}
        for buffer in alone.values():
            buffer.reorder(torch.tensor([self.row]))
        layout = TokenLayout({self.axis.tower: self.axis.select(torch.tensor([self.row]))})
        records, counts = computed(alone)
        return RunResult(records, layout, None, counts)


class BeamSearch:
    """The beam search of one run: what it completed, and which of it `generate` returned.

    Args:
        beams: running beams of every example.
        language: the tower that is searched.
        once_read: towers that were read before `generate` copied the examples: their rows are no copies.
        layout: what every position of the run is by now.
        buffers: the records of the run, which go on being filled.
    """

    def __init__(
        self,
        beams: int,
        *,
        language: str,
        once_read: frozenset[str],
        layout: Callable[[], TokenLayout],
        buffers: Mapping[Site, Buffer],
    ) -> None:
        self._beams, self._language, self._once_read = beams, language, once_read
        self._layout, self._live = layout, buffers
        self._complete: list[list[Hypothesis]] = []
        self._returned: list[list[Hypothesis]] | None = None

    def decide(self, ids: Tensor, done: Tensor, prompt: int) -> None:
        """The stopping criteria have decided which candidates, the best of every example first, are complete.

        `prompt` is the length of the prompt in positions.
        """
        axis = self._layout().axes.get(self._language)
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
                    own = max(0, prompt - hidden)
                    hypothesis = Hypothesis(tuple(sequence.tolist()), own, row, axis, buffers)
                    self._complete[example].append(hypothesis)

    def close(self, sequences: Tensor | None) -> None:
        """The call of `generate` is over and has returned these sequences."""
        if sequences is not None and self._complete and not len(sequences) % len(self._complete):
            each = len(sequences) // len(self._complete)
            rows = sequences.tolist()
            chosen = [
                [_behind(row, complete) for row in rows[example * each : (example + 1) * each]]
                for example, complete in enumerate(self._complete)
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
        groups, returned = [], []
        layout = self._layout()
        for example, group in enumerate(self._returned):
            returned += [len(groups) + rank for rank in range(len(group))]
            groups += group
            if every:
                groups += self._running(example, layout)[: self._beams - len(group)]
        parts = [hypothesis.result() for hypothesis in groups]
        others = {site: buffer for site, buffer in self._live.items() if site.tower != self._language}
        records, counts = computed(others)
        records = {
            site: record if site.tower in self._once_read else self._record_once(record)
            for site, record in records.items()
        }
        records |= merge_records([part.records for part in parts])
        for part in parts:
            for (site, what), count in part.counts.items():
                nonfinite.add(counts, site, {what: count})
        axes = {tower: self._once(axis) for tower, axis in layout.axes.items() if tower != self._language}
        axes |= merge_layouts([part.layout for part in parts]).axes
        records = {site: records[site] for site in self._live if site in records}
        return RunResult(records, TokenLayout(axes), returned, counts)

    def _running(self, example: int, layout: TokenLayout) -> list[Hypothesis]:
        assert self._returned is not None
        axis, buffers = layout.axes[self._language], self._buffers()
        beams = [
            Hypothesis((), 0, row, axis, buffers)
            for row in range(example * self._beams, (example + 1) * self._beams)
        ]
        returned = [hypothesis.fed for hypothesis in self._returned[example]]
        return [beam for beam in beams if beam.fed not in returned]

    def _buffers(self) -> dict[Site, Buffer]:
        return {s: buffer.fork() for s, buffer in self._live.items() if s.tower == self._language}

    def _once(self, axis: Axis) -> Axis:
        """An axis of another tower without the copies that a search makes of its examples."""
        if axis.tower in self._once_read or len(axis.roles) != self._size():
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
    candidates = list(hypotheses)
    fitting = [h for h in candidates if _begins(sequence, h.ids)] or [
        h for h in candidates if _contains(sequence, h.ids[h.prompt : -1])
    ]
    return max(fitting, key=lambda hypothesis: len(hypothesis.ids), default=None)


def _begins(sequence: Sequence[int], ids: Sequence[int]) -> bool:
    return tuple(sequence[: len(ids)]) == tuple(ids) and len(set(sequence[len(ids) :])) <= 1


def _contains(sequence: Sequence[int], ids: Sequence[int]) -> bool:
    starts = range(len(sequence) - len(ids) + 1) if ids else ()
    return any(tuple(sequence[start : start + len(ids)]) == tuple(ids) for start in starts)
