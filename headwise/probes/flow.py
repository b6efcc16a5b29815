"""Follows a model through its forwards: which run a call belongs to, and what its rows and keys are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.layout import ROLES, Axis, TokenLayout, describe, generic_axis
from headwise.probes.arguments import Call
from headwise.probes.caches import cache_among, cached_length
from headwise.probes.descriptions import axes_given, completed, heard
from headwise.probes.generate_calls import GenerateCall
from headwise.probes.run import PADDING, Run
from headwise.probes.sites import key_stack
from headwise.probes.statistics import Places, counts_of
from headwise.probes.windows import Window

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CACHED = ROLES.index("cached")


class Flow:
    """The runs of one model on one thread, as seen from a capture or a patch.

    A forward at position 0 begins a run. It continues one when its cache belongs to that run; when it does without
    a cache and its ids extend the previous ones; or when the run has not yet seen the stack at hand (an encoder
    that `generate` calls before the decoder).
    """

    def __init__(self, model: PreTrainedModel, processor: Any, language: str, *, keep: bool) -> None:
        self.model, self.processor, self.language = model, processor, language
        self.keep = keep
        """Keep every run; else only those whose cache is alive."""
        self.runs: list[Run] = []
        self.run: Run | None = None
        self._memo: dict[Any, Any] = {}
        self._prompt: tuple[GenerateCall, Mapping[str, Axis]] | None = None
        self._recordings = 0
        """Recordings that earlier calls of `generate` were given."""
        self._ends = _end_ids(model)

    def enter(self, primary: str, inputs: Mapping[str, Any], call: GenerateCall | None = None) -> bool:
        """A forward begins, perhaps within a call of `generate`; `primary` is the stack that tells if its run is new.

        Returns:
            True when it begins the prompt of the language stack.
        """
        self._memo.clear()
        cache = cache_among(inputs.values())
        past, new = cached_length(cache), _rows(inputs, primary)
        ids = _ids(inputs, primary)
        run = self._find(primary, ids, inputs, cache, past)
        described: Mapping[str, Axis] = {}
        stacks = {primary}
        if run is not None and primary in run.stacks and past:
            run.settle()
            if past < run.length:
                run.truncate(past)
            self._continue(run, primary, inputs, past, new)
        else:
            described = describe(self.model, self.processor, inputs, past=past).axes
            stacks |= set(described) if primary == self.language else set()
            if call is not None and not past:
                described = completed(described, self._given(call), self.language)
                described = heard(described, self.model, self.processor, inputs, call, self._recordings)
            if run is None:
                run = self._begin(primary, inputs, past, new, described)
            elif primary in run.stacks:
                run.truncate(0)
                run.axes.update(_news(run, described))
                _mark_generated(run, new, self._ends)
            else:
                run.axes.update(_news(run, described))
        opens = primary == self.language and primary not in run.stacks
        if primary == self.language:
            run.drafts = _drafts(inputs, new)
            if opens:
                run.prompt, run.begins = past + new - run.drafts, past
            run.past, run.length, run.ids = past, past + new, ids
        run.stacks |= stacks
        if cache is not None:
            run.adopt(cache)
        self.run = run
        return opens

    def _given(self, call: GenerateCall) -> Mapping[str, Axis]:
        """The axes by the arguments of `generate`; found once per call."""
        if self._prompt is None or self._prompt[0] is not call.outermost:
            if self._prompt is not None:
                self._recordings += max((len(axis.roles) for axis in self._prompt[1].values()), default=0)
            self._prompt = call.outermost, axes_given(self.model, self.processor, call)
        return self._prompt[1]

    def leave(self, cache: Any) -> None:
        """The forward that began last has ended and handed out `cache`."""
        if cache is not None and self.run is not None:
            self.run.adopt(cache)

    def reorder(self, cache: Any, index: Tensor) -> None:
        """A beam search has reordered `cache`."""
        for run in self.runs:
            if run.owns(cache):
                run.reorder(index)

    def crop(self, cache: Any) -> None:
        """`cache` was rolled back."""
        length = cached_length(cache)
        for run in self.runs:
            if run.owns(cache) and run.prompt <= length < run.length:
                run.truncate(length)

    def fit(self, stack: str, kind: str, call: Call) -> Call:
        """The call without the slots of a static cache that are not filled yet."""
        if call.causal:
            return call
        keys = call.key.shape[2]
        filled = self.filled(stack, kind, call.query.shape[2], keys)
        return call.crop(filled) if filled < keys else call

    def filled(self, stack: str, kind: str, rows: int, keys: int) -> int:
        """How many of the keys of a call exist: a static cache hands over all its slots."""
        run = self.run
        if kind == "cross" or stack != self.language or run is None or not run.cached:
            return keys
        return min(keys, run.past + rows)

    def revocable(self, stack: str) -> int:
        """How many of the last rows of a call may be rolled back: the drafts of assisted generation."""
        return self.run.drafts if self.run is not None and stack == self.language else 0

    @property
    def current(self) -> Run:
        """The run of the forward under way."""
        assert self.run is not None
        return self.run

    def places(self, stack: str, kind: str, call: Call, *, labels: bool = True) -> Places:
        """What the rows and keys of a call are; without `labels`, their roles are left out."""
        batch, _, rows, keys = call.shape
        device, window = call.query.device, call.window
        return self.shaped(stack, kind, batch, rows, keys, device, labels=labels, window=window)

    def shaped(
        self,
        stack: str,
        kind: str,
        batch: int,
        rows: int,
        keys: int,
        device: Any,
        *,
        labels: bool = True,
        window: Window | None = None,
    ) -> Places:
        """`places` for a call of this shape; computed once per forward."""
        name = ("places", stack, kind, batch, rows, keys, labels, window)
        bare = not labels and stack == self.language and not self.current.padded
        make = self._bare_places if bare else self._places
        return self.once(name, lambda: make(stack, kind, batch, rows, keys, device, window))

    def once(self, name: Any, find: Callable[[], Any]) -> Any:
        """What `find` gives, found once per forward."""
        if name not in self._memo:
            self._memo[name] = find()
        return self._memo[name]

    def rows(self, stack: str, batch: int, rows: int, device: Any) -> Places:
        """`places` for rows alone."""
        past = self.current.past if stack == self.language else 0
        return self.shaped(stack, "self", batch, rows, past + rows, device, labels=self.keep)

    def counts(self, call: Call, places: Places) -> tuple[Tensor, Tensor]:
        """`counts` of a call; computed once per forward and mask."""
        mask = call.mask
        same = None if mask is None else (mask.data_ptr(), mask.shape, mask.stride())
        name = ("counts", same, call.causal, call.shape[0], *call.shape[2:], places.cross, call.window)
        if name not in self._memo:
            self._memo[name] = (mask, counts_of(call, places))
        return self._memo[name][1]

    def _find(self, primary: str, ids: Any, inputs: Mapping[str, Any], cache: Any, past: int) -> Run | None:
        """The run that a call continues; None when it begins one."""
        if past:
            owner = next((run for run in self.runs if run.owns(cache)), None)
            return owner if owner is not None and owner.prompt <= past <= owner.length else None
        run = self.run
        if run is None or primary not in run.stacks:
            return run
        cached = inputs.get("use_cache")
        if cached is None:
            cached = getattr(self.model.config, "use_cache", True)
        return run if cached is False and _extends(ids, run.ids) else None

    def _continue(self, run: Run, primary: str, inputs: Mapping[str, Any], past: int, new: int) -> None:
        """A cached call goes on: a decode step, drafts, or more of the prompt."""
        ids, padding = _ids(inputs, primary), _padding(inputs, primary, new)
        if ids is None or new == 1 or _drafts(inputs, new):
            run.append(ids, new, padding, self._ends)
            return
        chunk = {"input_ids": ids}
        if padding is not None:
            chunk["attention_mask"] = (~padding).long()
        axes = describe(self.model, self.processor, chunk, past=past).axes
        run.lengthen(axes.get(self.language), new, padding)
        run.prompt = past + new

    def _begin(
        self, primary: str, inputs: Mapping[str, Any], past: int, new: int, described: Mapping[str, Axis]
    ) -> Run:
        run = Run(self.language, TokenLayout(described))
        axis = run.axes.get(self.language)
        if past and axis is not None and primary == self.language:
            before = torch.full((len(axis.roles), past), _CACHED, dtype=torch.uint8)
            mask = inputs.get("attention_mask")
            if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] >= past:
                before[mask[:, :past].cpu() == 0] = PADDING
            run.axes[self.language] = Axis(self.language, torch.cat([before, axis.roles[:, -new:]], dim=1))
        if not self.keep:
            self.runs = [other for other in self.runs if other.alive]
        self.runs.append(run)
        return run

    def _bare_places(
        self, stack: str, kind: str, batch: int, rows: int, keys: int, device: Any, window: Window | None
    ) -> Places:
        """Positions alone, where nothing is padding."""
        past = self._first_row(stack, window)
        cross = kind == "cross" or (past == 0 and keys != rows)
        return Places(
            positions=torch.arange(past, past + rows, device=device),
            roles=(),
            classes=torch.zeros(1, keys, 0, device=device),
            cross=cross,
            key_start=0 if cross else max(0, past + rows - keys),
        )

    def _first_row(self, stack: str, window: Window | None) -> int:
        """Absolute position of the first row of a call."""
        if window is not None:
            return window.start
        return self.current.past if stack == self.language else 0

    def _places(
        self, stack: str, kind: str, batch: int, rows: int, keys: int, device: Any, window: Window | None
    ) -> Places:
        run = self.current
        past = self._first_row(stack, window)
        cross = kind == "cross" or (past == 0 and keys != rows)
        queries = run.axis(stack, batch, past + rows if window is None else window.total)
        start = 0 if cross else max(0, past + rows - keys)
        held = queries
        if kind == "cross":
            held = run.axis(key_stack(stack, kind, run.axes), batch, keys)
        elif cross:  # keys were pooled (Segformer): they are no positions of the stack
            held = generic_axis(stack, batch, keys)
        roles = held.roles[:, start : start + keys].to(device)
        padded = roles == PADDING
        present = tuple(sorted(set(roles.unique().tolist()) - {PADDING}))
        classes = torch.zeros(batch, keys, len(present), device=device)
        for column, role in enumerate(present):
            classes[..., column] = roles == role
        valid = queries.valid[:, past : past + rows].to(device)
        return Places(
            positions=torch.arange(past, past + rows, device=device),
            roles=present,
            classes=classes[:1] if bool((classes == classes[:1]).all()) else classes,
            cross=cross,
            key_start=start,
            query_valid=None if bool(valid.all()) else valid,
            key_valid=~padded if bool(padded.any()) else None,
        )


def _news(run: Run, described: Mapping[str, Axis]) -> dict[str, Axis]:
    """What a call tells that its run does not know better: `generate` hands the decoder outputs of the encoder, and
    what is behind them was seen when the encoder ran.
    """
    return {stack: axis for stack, axis in described.items() if not _known(run.axes.get(stack), axis)}


def _known(before: Axis | None, axis: Axis) -> bool:
    if before is None or axis.ids is not None:
        return False
    same = before.roles.shape[1] == axis.roles.shape[1]
    return same and len(axis.roles) % len(before.roles) == 0  # beams are copies of an example


def _ids(inputs: Mapping[str, Any], primary: str) -> Tensor | None:
    value = inputs.get("decoder_input_ids") if primary == "decoder" else None
    return inputs.get("input_ids") if value is None else value


def _rows(inputs: Mapping[str, Any], primary: str) -> int:
    names = ("decoder_input_ids", "decoder_inputs_embeds") if primary == "decoder" else ()
    for name in (*names, "input_ids", "inputs_embeds"):
        value = inputs.get(name)
        if isinstance(value, Tensor):
            return value.shape[1]
    return 0


def _drafts(inputs: Mapping[str, Any], new: int) -> int:
    """Assisted generation, which always has a cache, asks for the logits of its drafts and the token before them."""
    asked = inputs.get("logits_to_keep")
    if cache_among(inputs.values()) is not None and isinstance(asked, int) and 1 < asked <= new:
        return asked - 1
    return 0


def _padding(inputs: Mapping[str, Any], primary: str, new: int) -> Tensor | None:
    mask = inputs.get("decoder_attention_mask" if primary == "decoder" else "attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < new:
        return None
    return mask[:, -new:] == 0


def _extends(ids: Any, before: Any) -> bool:
    """True when every row of ids begins with a row of what came before: beams may have changed places."""
    if not isinstance(ids, Tensor) or not isinstance(before, Tensor) or ids.shape[0] != before.shape[0]:
        return False
    length = before.shape[1]
    if ids.shape[1] <= length:
        return False
    return bool((ids[:, None, :length] == before).all(-1).any(-1).all())


def _mark_generated(run: Run, length: int, ends: frozenset[int]) -> None:
    axis = run.axes.get(run.language)
    if axis is None or axis.roles.shape[1] != length or run.prompt >= length:
        return
    roles = axis.roles.clone()
    tail = roles[:, run.prompt :]
    tail[tail != PADDING] = ROLES.index("generated")
    if axis.ids is not None and len(axis.ids) > 1 and ends:
        ended = torch.isin(axis.ids[:, run.prompt :], torch.tensor(sorted(ends))).cumsum(1) > 0
        tail[ended] = PADDING
    run.axes[run.language] = replace(axis, roles=roles)


def _end_ids(model: PreTrainedModel) -> frozenset[int]:
    ends: set[int] = set()
    for config in (model.config, getattr(model, "generation_config", None)):
        value = getattr(config, "eos_token_id", None)
        ends.update(value if isinstance(value, list | tuple) else () if value is None else (value,))
    return frozenset(ends)
