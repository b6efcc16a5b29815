"""Tracker of a model's generations: the run that a forward belongs to, and the layout of its rows and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor

from headwise.layout import Axis, TokenLayout, describe
from headwise.probes.generation.axes import behind_cached, completed, generate_axes, new_axes
from headwise.probes.generation.cache_events import Choice
from headwise.probes.generation.caches import cached_length, in_pieces, require_past, unseen_past
from headwise.probes.generation.call_layout import layout_of
from headwise.probes.generation.forward_inputs import drafts_of, ids_of, padding_of, words_of
from headwise.probes.generation.generate_call import DecodingLoop, GenerateCall
from headwise.probes.generation.generation import Generation
from headwise.probes.generation.runs import (
    cached_run,
    drop_attempts,
    goes_on,
    hand_over,
    join,
    owner_of,
    uncached_run,
)
from headwise.probes.kernels.call import Call
from headwise.probes.kernels.statistics import CallLayout, counts_of
from headwise.probes.kernels.windows import Window

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GenerationTracker:
    """The runs of one model on one thread, as seen from a capture or a patch.

    A run goes through these states, one step per forward (`enter`), and between forwards by its cache:

    prompt      a forward at position 0 begins a run; more of the prompt may come behind it, in pieces (`_continue`)
    decode      a forward continues the run that its cache belongs to; without a cache, one whose ids it extends, or
                one that has not seen this tower yet (an encoder comes before its decoder)
    reorder     the cache's examples change places (beam search); put in force by the next forward (`apply_reorder`)
    roll back   the cache is cropped, or the next forward begins earlier (drafts were refused): rows are forgotten
    over        its call of `generate` ends (`close`), or its cache is gone

    Within one loop of `generate` the first run is the prompt's; any other (contrast, drafts) is a branch beside it.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, language: str, *, keep: bool) -> None:
        self.model, self.processor, self.language = model, processor, language
        self.keep = keep
        """Keep every run; else only those that may go on."""
        self.runs: list[Generation] = []
        self.run: Generation | None = None
        self._memo: dict[Any, Any] = {}
        self._axes_of_call: tuple[GenerateCall, Mapping[str, Axis]] | None = None
        self._recordings = 0
        """Long recordings that earlier calls of `generate` have read."""

    def enter(
        self, primary: str, inputs: Mapping[str, Any], call: GenerateCall | None, *, cache: Any, past: int
    ) -> bool:
        """A forward begins, perhaps within a call of `generate`; `primary` is the tower that tells if its run is new.

        It was given a key-value `cache` of `past` positions, or None of 0.

        Returns:
            True when it begins the prompt of the language tower.
        """
        self._memo.clear()
        ids = ids_of(inputs, primary)
        batch, new = words_of(inputs, primary)
        if primary == self.language:
            require_past(inputs, past)
        loop = None if call is None else call.loop
        run = self._continued(primary, ids, inputs, cache, past, loop)
        described: Mapping[str, Axis] = {}
        towers = {primary}
        opens = primary == self.language and (run is None or primary not in run.towers)
        drafts = drafts_of(inputs, ids, past + new, new, call, opens=opens) if primary == self.language else 0
        if run is not None and primary in run.towers and past:
            run.apply_reorder()
            if past < run.length:
                run.roll_back(past)
            piece = loop is not None and loop.reading > 0 and run.loop is loop
            generated = bool(drafts) or (new == 1 and not piece)
            self._continue(run, primary, inputs, past, new, generated=generated)
        else:
            described = describe(self.model, self.processor, inputs, past=past).axes
            if not past and primary == self.language and primary in described:
                new = described[primary].roles.shape[1]  # with what the model puts in front of the text
            towers |= set(described) if primary == self.language else set()
            if call is not None and not past:
                described = completed(described, self._call_axes(call), self.language)
            if call is not None and call.windows is not None:
                described = call.windows.windowed(described, inputs, before=self._recordings)
            if run is None:
                run = self._begin(primary, inputs, past, new, described, call)
            else:
                read_again = primary in run.towers
                if read_again:
                    run.truncate(0)
                    run.readings += 1
                run.axes.update(new_axes(described, run.axes))
                if read_again:
                    run.mark_generated(new, 0 if ids is None else ids.shape[1])
            if call is not None and call.windows is not None:
                run.windows = call.windows.read or run.windows
        if opens:
            run.prompt, run.cached_before = past + new - drafts, past
        if primary == self.language and call is not None and (run.call is not call or run.loop is not loop):
            join(self.runs, run, call, keep=self.keep)
        if primary == self.language:
            run.drafts = drafts
            run.past, run.length, run.ids, run.batch = past, past + new, ids, batch
        run.towers |= towers
        if cache is not None:
            hand_over(self.runs, cache, run)
        self.run = run
        return opens

    def _call_axes(self, call: GenerateCall) -> Mapping[str, Axis]:
        """The axes by the arguments of `generate`; found once per call."""
        if self._axes_of_call is None or self._axes_of_call[0] is not call.outermost:
            self._axes_of_call = call.outermost, generate_axes(self.model, self.processor, call)
        return self._axes_of_call[1]

    def snapshot(self) -> GenerationTracker:
        """The same as it is now; later forwards do not change it."""
        twin = copy(self)
        twin._memo, twin.runs = {}, []
        twin.run = None if self.run is None else self.run.snapshot()
        return twin

    def leave(self, cache: Any) -> None:
        """The forward that began last has ended and handed out `cache`."""
        if self.run is not None:
            hand_over(self.runs, cache, self.run)

    def take(self, run: Generation) -> None:
        """Goes on with a run that may have been followed on another thread."""
        if run not in self.runs:
            self.runs.append(run)

    def close(self, call: GenerateCall) -> None:
        """A call of `generate` is over."""
        if self.keep:
            runs = [run for run in self.runs if run.call is call]
            for run in runs:
                run.close(call)
            drop_attempts(run for run in runs if run.is_example)
        if call.windows is not None and call.within is None:
            self._recordings += call.windows.recordings

    def reorder(self, cache: Any, choose: Choice) -> None:
        """Examples of `cache` were reordered, left out or copied."""
        run = owner_of(self.runs, cache)
        if run is not None:
            run.reorder(choose)

    def crop(self, cache: Any) -> None:
        """`cache` was rolled back; what a cut in a prompt means is told by the forward that goes on from there."""
        run, length = owner_of(self.runs, cache), cached_length(cache)
        if run is not None and run.prompt <= length < run.length:
            run.truncate(length)

    def fit(self, tower: str, kind: str, call: Call) -> Call:
        """The call without the slots of a static cache that are not filled yet."""
        _, _, rows, keys = call.shape
        filled = self.filled(tower, kind, rows, keys)
        return call.crop(filled) if filled < keys and not call.causal else call

    def filled(self, tower: str, kind: str, rows: int, keys: int) -> int:
        """Number of keys of a call that exist: a static cache hands over all its slots.

        Raises:
            CaptureError: there are keys of a past that came in no known cache.
        """
        run = self.run
        if kind == "cross" or tower != self.language or run is None or keys <= run.past + rows:
            return keys
        if not run.cached:
            raise unseen_past(tower, keys, rows, run.past)
        return run.past + rows

    def revocable(self, tower: str) -> int:
        """Number of the last rows of a call that may be rolled back: the drafts of assisted generation."""
        run = self.run
        return 0 if run is None or tower != self.language else min(run.drafts, run.length - run.past)

    @property
    def current(self) -> Generation:
        """The run of the forward under way."""
        assert self.run is not None
        return self.run

    def call_layout(self, tower: str, kind: str, call: Call, *, labels: bool = True) -> CallLayout:
        """Layout of the rows and keys of a call; without `labels`, their roles are left out."""
        batch, _, rows, keys = call.shape
        device, window = call.query.device, call.window
        return self.shaped(tower, kind, batch, rows, keys, device, labels=labels, window=window)

    def shaped(
        self,
        tower: str,
        kind: str,
        batch: int,
        rows: int,
        keys: int,
        device: Any,
        *,
        labels: bool = True,
        window: Window | None = None,
    ) -> CallLayout:
        """`call_layout` for a call of this shape; computed once per forward."""
        name, run = ("layout", tower, kind, batch, rows, keys, labels, window), self.current

        def find() -> CallLayout:
            full = labels or tower != self.language or run.padded
            return layout_of(run, tower, kind, batch, rows, keys, device, window, labels=full)

        return self.once(name, find)

    def once(self, name: Any, find: Callable[[], Any]) -> Any:
        """Result of `find`, found once per forward."""
        if name not in self._memo:
            self._memo[name] = find()
        return self._memo[name]

    def rows(self, tower: str, batch: int, rows: int, device: Any) -> CallLayout:
        """`call_layout` for rows alone."""
        past = self.current.past if tower == self.language else 0
        return self.shaped(tower, "self", batch, rows, past + rows, device, labels=self.keep)

    def counts(self, call: Call, layout: CallLayout) -> tuple[Tensor, Tensor]:
        """`counts` of a call; computed once per forward and mask."""
        mask = call.mask
        same = None if mask is None else (mask.data_ptr(), mask.shape, mask.stride())
        name = ("counts", same, call.causal, call.shape[0], *call.shape[2:], layout.cross, call.window)
        return self.once(name, lambda: (mask, counts_of(call, layout)))[1]

    def _continued(
        self,
        primary: str,
        ids: Any,
        inputs: Mapping[str, Any],
        cache: Any,
        past: int,
        loop: DecodingLoop | None,
    ) -> Generation | None:
        """The run that a forward continues; None when it begins one."""
        if past:
            return cached_run(self.runs, cache, past)
        run = self.run
        if run is None or primary not in run.towers:
            return run
        cached = inputs.get("use_cache")
        if cached is None:
            cached = getattr(self.model.config, "use_cache", True)
        return uncached_run(self.runs, run, ids, loop) if cached is False else None

    def _continue(
        self,
        run: Generation,
        primary: str,
        inputs: Mapping[str, Any],
        past: int,
        new: int,
        *,
        generated: bool,
    ) -> None:
        """A cached call goes on: a decode step, drafts, or more of the prompt."""
        ids, padding = ids_of(inputs, primary), padding_of(inputs, primary, new)
        if not generated and run.indivisible is not None:
            raise in_pieces(run.indivisible, f"{new} positions come behind {past} that were read before")
        if generated or ids is None:
            run.append(ids, new, padding)
            return
        chunk = {"input_ids": ids}
        if padding is not None:
            chunk["attention_mask"] = (~padding).long()
        axes = describe(self.model, self.processor, chunk, past=past).axes
        run.lengthen(axes.get(self.language), new, padding)
        run.prompt = past + new

    def _begin(
        self,
        primary: str,
        inputs: Mapping[str, Any],
        past: int,
        new: int,
        described: Mapping[str, Axis],
        call: GenerateCall | None,
    ) -> Generation:
        run = Generation(self.language, TokenLayout(described), call)
        axis = run.axes.get(self.language)
        if past and axis is not None and primary == self.language:
            fed = Axis(self.language, axis.roles[:, -new:])
            run.axes[self.language] = behind_cached(fed, past, inputs.get("attention_mask"))
        if not self.keep:
            self.runs = [other for other in self.runs if goes_on(other, call)]
        self.runs.append(run)
        return run
