"""Plan of what is done at a site, and the steps of the fixes that do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from headwise.errors import FixError
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context, Visibility
from headwise.probes.engine.examples import chosen, keep_others
from headwise.probes.fix_plan import STEPS, FixPlan
from headwise.probes.kernels.call import Call, visible_keys
from headwise.probes.kernels.details import NO_DETAILS, Details
from headwise.probes.kernels.statistics import CallLayout, Statistics
from headwise.probes.kernels.streaming import check_edit, untouched

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session
    from headwise.probes.trace.options import Keep


class FixStep(NamedTuple):
    """One fix of a session."""

    plan: FixPlan
    session: Session
    number: int
    """Its place among the session's fixes."""

    @property
    def fix(self) -> Any:
        """The fix itself."""
        return self.plan.fix


class Watch(NamedTuple):
    """One session that keeps records of a site."""

    session: Session
    keep: Keep


FixSteps = Sequence[FixStep]


@dataclass(frozen=True)
class Plan:
    """Who acts on a site, and who watches it."""

    site: Site
    edit_qkv: FixSteps = ()
    edit: FixSteps = ()
    scale: FixSteps = ()
    watch: tuple[Watch, ...] = ()
    recompute: bool = False
    """True for a layer that is run again for the backward pass: computed as planned, and not recorded."""

    @cached_property
    def idle(self) -> bool:
        """True when there is nothing to do."""
        return not (self.edit_qkv or self.edit or self.scale or self.watch)

    @cached_property
    def reference_session(self) -> Session:
        """A session whose tracker tells where rows and keys are; all of them agree."""
        return (*self.watch, *self.edit, *self.scale, *self.edit_qkv)[0].session

    @cached_property
    def some_examples(self) -> bool:
        """True when every edit is for some examples of a batch alone."""
        return all(step.session.examples is not None for step in self.edit)

    @cached_property
    def stats(self) -> bool:
        """True when someone wants statistics."""
        return any(watch.keep.stats for watch in self.watch)

    @cached_property
    def details(self) -> Details:
        """What anyone wants beside the statistics."""
        wanted = NO_DETAILS
        for watch in self.watch:
            wanted = wanted.joined(watch.keep.details)
        return wanted

    @cached_property
    def maps(self) -> bool:
        """True when someone wants whole patterns."""
        return any(watch.keep.maps for watch in self.watch)

    @cached_property
    def rows(self) -> bool:
        """True when someone wants some rows of the pattern."""
        return any(watch.keep.rows for watch in self.watch)

    @cached_property
    def comparisons(self) -> tuple[Any, ...]:
        """Sessions that hold the engine against the model's own kernel."""
        return tuple(watch.session for watch in self.watch if watch.session.compares)

    @cached_property
    def gradients(self) -> bool:
        """True when someone wants the autograd graph."""
        return any(watch.keep.gradients for watch in self.watch)


def plan_of(site: Site, sessions: Iterable[Session], language: str) -> Plan:
    """Plan of some sessions for a site, in their order; `language` is the tower that a fix without one acts on."""
    sessions = tuple(sessions)
    steps: dict[str, list[FixStep]] = {step: [] for step in STEPS}
    for session in sessions:
        for number, plan in enumerate(session.plans):
            if not plan.neutral and plan.touches(site, language):
                for step in plan.steps:
                    steps[step].append(FixStep(plan, session, number))
    return Plan(
        site,
        edit_qkv=tuple(steps["edit_qkv"]),
        edit=tuple(steps["edit"]),
        scale=tuple(steps["scale"]),
        watch=tuple(Watch(s, keep) for s in sessions if s.watches and (keep := s.options.at(site))),
    )


def detailed(plan: Plan, layout: CallLayout) -> CallLayout:
    """The layout of a call with the details that are wanted of its rows and keys."""
    return replace(layout, details=plan.details) if plan.details else layout


@dataclass
class AttentionOutput:
    """Output of one attention call."""

    z: Tensor
    pattern: Tensor | None = None
    lse: Tensor | None = None
    statistics: tuple[Statistics, ...] = ()
    rows: tuple[tuple[Tensor, Tensor], ...] | None = None
    """Chosen rows of an edited pattern, each with its index within the call."""


def context(
    step: FixStep,
    tower: str,
    layout: CallLayout,
    block: slice = slice(None),
    visibility: Visibility | None = None,
) -> Context:
    """Context of the rows in hand, for a fix."""
    valid, run = layout.query_valid, step.session.tracker().current
    return Context(
        positions=layout.positions[block],
        run=run,
        tower=tower,
        memory=run.memory(step.number),
        query_valid=None if valid is None else valid[:, block],
        residual=step.session.followed.layer_residual,
        visibility=visibility,
    )


def active_edits(plan: Plan, batch: int, layout: CallLayout) -> list[FixStep]:
    """Edits that have rows in this call."""
    return [step for step in plan.edit if not step.plan.names_rows or _acts(plan, step, batch, layout)]


def edited_rows(plan: Plan, edits: FixSteps, batch: int, layout: CallLayout) -> Tensor:
    """The rows of a call that its edits ask for, counted within the call."""
    asked = torch.stack([_asked(plan, step, batch, layout) for step in edits])
    return asked.any(0).nonzero()[:, 0]


def _acts(plan: Plan, step: FixStep, batch: int, layout: CallLayout) -> bool:
    """True when an edit asks for some row of a call; found once per forward."""
    shape = (batch, len(layout.positions), layout.key_start)
    name = ("acts", step.number, plan.site.tower, plan.site.kind, *shape)
    return step.session.tracker().once(name, lambda: bool(_asked(plan, step, batch, layout).any()))


def _asked(plan: Plan, step: FixStep, batch: int, layout: CallLayout) -> Tensor:
    """True on the rows of a call that an edit asks for."""
    rows = step.fix.rows(context(step, plan.site.tower, layout), batch)
    at = layout.positions
    if isinstance(rows, range):
        return (at >= rows.start) & (at < rows.stop)
    return torch.isin(at, rows)


def apply_edits(
    plan: Plan,
    edits: FixSteps,
    pattern: Tensor,
    layout: CallLayout,
    block: slice | None = None,
    *,
    visibility: Visibility | None = None,
) -> Tensor:
    """Every edit in order, on rows of a call; the very tensor that was given when nothing changed.

    Keys are shown by absolute position. An edit that works in place acts like one that copies: outside tiles, whose
    `block` is given and whose pattern is a working copy, it is shown a tensor of its own.
    """
    start, current = layout.key_start, pattern
    for step in edits:
        full = before = torch.nn.functional.pad(current, (start, 0)) if start else current
        if (full is pattern and block is None) or step.session.examples is not None:
            full = full.clone()
        same = untouched(full)
        new = step.fix.edit(
            full, plan.site, context(step, plan.site.tower, layout, block or slice(None), visibility)
        )
        if same(new):
            continue
        check_edit(new, full)
        new = keep_others(step.session, plan.site.tower, new, before)
        current = new[..., start:].to(pattern.dtype)
    return current


def visibility_of(call: Call, layout: CallLayout, block: slice = slice(None)) -> Visibility:
    """Keys that some rows of a call may see, by absolute position."""

    def find() -> Tensor | None:
        visibility = visible_keys(call, block)
        if visibility is None or not layout.key_start:
            return visibility
        return torch.nn.functional.pad(visibility, (layout.key_start, 0))

    return find


def edit_qkv(plan: Plan, call: Call, layout: CallLayout) -> Call:
    """The call with queries, keys and values as the fixes want them."""
    q, k, v = call.query, call.key, call.value
    for step in plan.edit_qkv:
        new = step.fix.edit_qkv(q, k, v, plan.site, context(step, plan.site.tower, layout))
        pairs = zip(new, (q, k, v), strict=True)
        q, k, v = (keep_others(step.session, plan.site.tower, *pair) for pair in pairs)
    return replace(call, query=q, key=k, value=v)


def scale(plan: Plan, z: Tensor, layout: CallLayout) -> Tensor:
    """Head outputs as the fixes want them."""
    for step in plan.scale:
        outputs = z if step.session.examples is None else z.clone()
        new = step.fix.scale(outputs, plan.site, context(step, plan.site.tower, layout))
        if new.shape != z.shape:
            raise FixError(
                "A fix returned head outputs of the wrong shape.",
                evidence=f"got {tuple(new.shape)}, expected {tuple(z.shape)}",
                remedy="`scale` must return (batch, query, head, width) as it received it.",
            )
        z = keep_others(step.session, plan.site.tower, new, z)
    return z


def unedited(plan: Plan, z: Tensor, native: Callable[[], Tensor]) -> Tensor:
    """Head outputs with those of the model's own kernel for every example that no edit of `some_examples` is for."""
    rows = [chosen(step.session, plan.site.tower, len(z), z.device) for step in plan.edit]
    return torch.where(torch.stack(rows).any(0).view(-1, 1, 1, 1), z, native())
