"""One attention call: the cheapest way to observe and edit it that serves everyone who asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import FixError
from headwise.probes import dense, streaming
from headwise.probes.arguments import Call, visible_keys
from headwise.probes.context import Context
from headwise.probes.recording import Buffer
from headwise.probes.sites import Site
from headwise.probes.statistics import Places, Statistics, counts, from_pattern

if TYPE_CHECKING:
    from headwise.probes.session import Session

_WHOLE = 2**20
"""A pattern of at most this many elements is edited in one piece, exactly as eager attention would form it."""


@dataclass(frozen=True)
class Plan:
    """Who acts on a site, and who watches it."""

    site: Site
    project: tuple[tuple[Any, Session], ...] = ()
    edit: tuple[tuple[Any, Session], ...] = ()
    scale: tuple[tuple[Any, Session], ...] = ()
    watch: tuple[Session, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.project or self.edit or self.scale or self.watch)

    @property
    def leader(self) -> Session:
        """A session whose flow tells where rows and keys are; all of them agree."""
        return (*self.watch, *(session for _, session in (*self.edit, *self.scale, *self.project)))[0]


@dataclass
class Outcome:
    """What one call gave."""

    z: Tensor
    pattern: Tensor | None = None
    lse: Tensor | None = None
    statistics: tuple[Statistics, ...] = ()
    rows: tuple[tuple[Tensor, Tensor], ...] | None = None
    """Chosen rows of an edited pattern, each with its index within the call."""


def attend(plan: Plan, call: Call, native: Any, *, training: bool = False, keep: bool = False) -> Outcome:
    """Runs one call under a plan; `native(query, key, value)` is the model's own kernel on it.

    Mode by mode: off and z only (the model's own kernel), rows (its own kernel, and the chosen rows beside it),
    stats (tiles), decode (one row), maps and short edits (materialised), long edits (tiles of rows). With `keep`
    the pattern is returned to the model.
    """
    places = plan.leader.flow().places(plan.site.stack, plan.site.kind, call)
    if plan.project:
        call = _projected(plan, call, places)
    stats = any(session.want.stats for session in plan.watch)
    maps = keep or any(session.want.maps for session in plan.watch)
    rows = any(session.want.rows is not None for session in plan.watch)
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in (call.query, call.key, call.value))
    edits = _active_edits(plan, call.shape[0], places)
    loose = plan.leader.flow().revocable(plan.site.stack) if stats else 0
    traced = graph and any(session.want.gradients for session in plan.watch)
    if traced:
        outcome = _graph(plan, call, places, edits, maps=maps, training=training)
    elif edits and graph:
        outcome = _materialised(plan, call, places, edits, native, maps=maps, training=training)
    elif loose and not (edits or maps):
        outcome = Outcome(native(call))
    elif (edits or stats or maps) and call.query.shape[2] == 1 and not graph:
        outcome = _decode(plan, call, places, edits)
    elif maps or loose or (edits and call.query.shape[2] * call.key.shape[2] * call.shape[0] * call.shape[1] <= _WHOLE):
        outcome = _materialised(plan, call, places, edits, native, maps=maps, training=training)
    elif edits and not stats and not rows and all(hasattr(fix, "rows") for fix, _ in edits):
        outcome = Outcome(_edit_rows(plan, call, places, edits, native(call)))
    elif edits or (stats and not graph):
        outcome = _streamed(plan, call, places, edits, stats=stats)
    else:
        outcome = Outcome(native(call))
    if stats and not outcome.statistics:
        outcome.statistics = _statistics(plan, call, places, outcome, loose)
    for fix, session in plan.scale:
        scaled = fix.scale(outcome.z, plan.site, context(session, places))
        if scaled.shape != outcome.z.shape:
            raise FixError(
                "A fix returned head outputs of the wrong shape.",
                evidence=f"got {tuple(scaled.shape)}, expected {tuple(outcome.z.shape)}",
                remedy="`scale` must return (batch, query, head, width) as it received it.",
            )
        outcome.z = scaled
    for session in plan.watch:
        _record(session, plan.site, call, places, outcome)
    return outcome


def observe(plan: Plan, scores: Tensor, pattern: Tensor) -> Tensor:
    """The softmax fallback: a pattern is at hand, and the one to use is returned.

    Scaling a head's outputs is scaling its pattern, since z is linear in it.
    """
    flow = plan.leader.flow()
    filled = flow.filled(plan.site.stack, plan.site.kind, *pattern.shape[2:])
    whole, scores = pattern, scores.reshape(pattern.shape)[..., :filled]
    pattern = pattern[..., :filled]
    batch, heads, rows, keys = pattern.shape
    places = flow.shaped(plan.site.stack, plan.site.kind, batch, rows, keys, pattern.device)
    edits = _active_edits(plan, batch, places)
    new = _apply_edits(plan, edits, pattern, places)
    lowest = torch.finfo(scores.dtype).min / 64  # some models scale after masking
    seen_by = (scores.detach() > lowest).any(1)
    if new is not pattern:
        blind = ~seen_by.any(-1, keepdim=True)
        streaming.check_edit(new, pattern, outside=(~seen_by & ~blind)[:, None], positions=slice(0, None))
    for fix, session in plan.scale:
        ones = torch.ones(batch, rows, heads, 1, dtype=new.dtype, device=new.device)
        new = new * fix.scale(ones, plan.site, context(session, places)).transpose(1, 2)
    if plan.project:
        raise FixError(
            "Queries, keys and values cannot be replaced in this model.",
            evidence=f"{plan.site.module} computes attention outside the transformers interface",
            remedy="Replace its pattern or its residual instead.",
        )
    lse = torch.logsumexp(scores.detach().float(), -1) if new is pattern else None
    for session in plan.watch:
        want, buffer = session.want, session.buffer(plan.site)
        if want.stats:
            count = counts(seen_by, rows, keys, places)
            buffer.add_statistics(from_pattern(new, places, count, lse=lse))
        if want.maps:
            session.charge(plan.site, new)
            if want.gradients and new.requires_grad:
                new.retain_grad()
            buffer.add_rows("maps", new if want.gradients else new.detach(), places)
        elif want.rows is not None and len(index := session.row_index(places)):
            buffer.add_rows("maps", new.detach()[:, :, index], places, index=index)
    if new is pattern:
        return whole
    return torch.nn.functional.pad(new, (0, whole.shape[-1] - filled))


def _graph(
    plan: Plan, call: Call, places: Places, edits: Sequence, *, maps: bool, training: bool
) -> Outcome:
    """The differentiable form: per-head values, outputs and (for maps) the pattern keep their gradients."""
    values = dense.repeat_heads(call.value, call.groups)
    values = values if values.requires_grad else values.detach().requires_grad_()
    values.retain_grad()
    wide = replace(call, key=dense.repeat_heads(call.key, call.groups), value=values)
    pattern = lse = None
    if maps or edits or call.softcap is not None or call.bias is not None or call.sinks is not None:
        pattern, lse = dense.pattern(wide)
        pattern = _apply_edits(plan, edits, pattern, places)
        if pattern.requires_grad:
            pattern.retain_grad()
        z = dense.apply_pattern(pattern, wide, training=training)
    else:
        z = torch.nn.functional.scaled_dot_product_attention(
            wide.query,
            wide.key,
            wide.value,
            attn_mask=call.mask,
            dropout_p=call.dropout,
            is_causal=call.causal,
            scale=call.scaling,
        ).transpose(1, 2)
    z.retain_grad()
    for session in plan.watch:
        if session.want.gradients:
            buffer = session.buffer(plan.site)
            buffer.set("v_heads", values)
            buffer.set("z_graph", z)
    return Outcome(z, pattern, lse)


def _decode(plan: Plan, call: Call, places: Places, edits: Sequence) -> Outcome:
    pattern, lse = dense.decode_row(call)
    new = _apply_edits(plan, edits, pattern, places)
    return Outcome(dense.apply_row(new, call), new, lse if new is pattern else None)


def _materialised(
    plan: Plan, call: Call, places: Places, edits: Sequence, native: Any, *, maps: bool, training: bool
) -> Outcome:
    """Whole pattern, the one that eager attention forms.

    With maps, outputs are computed from it, so that deeper layers see what they would see under eager. Without, an
    edit that changed nothing leaves the model's own outputs, bit for bit.
    """
    pattern, lse = dense.pattern(call)
    new = _apply_edits(plan, edits, pattern, places)
    if new is pattern or (not new.requires_grad and torch.equal(new, pattern)):
        z = dense.apply_pattern(pattern, call, training=training) if maps else native(call)
        return Outcome(z, pattern, lse)
    streaming.check_edit(new, pattern, outside=_hidden(call), positions=slice(int(places.positions[0]), None))
    return Outcome(dense.apply_pattern(new, call, training=training), new)


def _streamed(plan: Plan, call: Call, places: Places, edits: Sequence, *, stats: bool) -> Outcome:
    kept: list[tuple[Tensor, Tensor]] = []
    wanted = _wanted_rows(plan, places) if edits else None

    def edit(pattern: Tensor, block: slice) -> Tensor:
        new = _apply_edits(plan, edits, pattern, places, block)
        if wanted is not None:
            inside = wanted[(wanted >= block.start) & (wanted < block.stop)]
            kept.append((inside, new[:, :, inside - block.start].clone()))
        return new

    count = plan.leader.flow().counts(call, places) if stats else None
    z, statistics = streaming.attend(
        call, places if stats else None, edit=edit if edits else None, count=count
    )
    found = () if statistics is None else (statistics,)
    return Outcome(z, None, None, found, None if wanted is None else tuple(kept))


def _edit_rows(plan: Plan, call: Call, places: Places, edits: Sequence, z: Tensor) -> Tensor:
    """Edits the rows that the fixes ask for; every other row keeps the model's own output."""
    index = _edited_rows(edits, call, places)
    part = call.rows(index)
    pattern, _ = dense.pattern(part)
    some = places.rows(index)
    new = _apply_edits(plan, edits, pattern, some)
    if new is pattern or torch.equal(new, pattern):
        return z
    streaming.check_edit(new, pattern, outside=_hidden(part), positions=slice(int(index[0]), None))
    z = z.clone()
    z[:, index] = dense.apply_pattern(new, part)
    return z


def _active_edits(plan: Plan, batch: int, places: Places) -> list[tuple[Any, Session]]:
    """Edits that have rows in this call."""
    active = []
    for fix, session in plan.edit:
        if hasattr(fix, "rows"):
            at = fix.rows(context(session, places), batch)
            if not bool(torch.isin(places.positions, at).any()):
                continue
        active.append((fix, session))
    return active


def _edited_rows(edits: Sequence, call: Call, places: Places) -> Tensor:
    asked = [fix.rows(context(session, places), call.query.shape[0]) for fix, session in edits]
    return torch.isin(places.positions, torch.cat(asked)).nonzero()[:, 0]


def _apply_edits(
    plan: Plan, edits: Sequence, pattern: Tensor, places: Places, block: slice | None = None
) -> Tensor:
    """Every edit in order, on rows of a call; the very tensor that was given when nothing changed.

    Keys are shown by absolute position. An edit that works in place acts like one that copies: outside tiles, whose
    `block` is given and whose pattern is a working copy, it is shown a tensor of its own.
    """
    start, given = places.key_start, pattern
    for fix, session in edits:
        shown = torch.nn.functional.pad(given, (start, 0)) if start else given
        shown = shown.clone() if shown is pattern and block is None else shown
        version = shown._version
        new = fix.edit(shown, plan.site, context(session, places, block or slice(None)))
        if new is shown and shown._version == version:
            continue
        streaming.check_edit(new, shown, outside=None, positions=slice(0, 0))
        given = new[..., start:].to(pattern.dtype)
    return given


def context(session: Session, places: Places, block: slice = slice(None)) -> Context:
    """What a fix of a session is told about the rows in hand."""
    run = session.flow().run
    valid = places.query_valid
    residual = session.entering
    return Context(
        positions=places.positions[block],
        run=run,
        query_valid=None if valid is None else valid[:, block],
        residual=None if residual is None else residual[:, block],
    )


def _hidden(call: Call) -> Tensor | None:
    """True where a row may not see a key; rows that see nothing are left out."""
    seen_by = visible_keys(call)
    if seen_by is None:
        return None
    blind = ~seen_by.any(-1, keepdim=True)
    return (~seen_by & ~blind)[:, None]


def _statistics(
    plan: Plan, call: Call, places: Places, outcome: Outcome, loose: int
) -> tuple[Statistics, ...]:
    """Statistics beside a kernel that does not give them; the last `loose` rows one by one."""
    flow, rows = plan.leader.flow(), call.query.shape[2]
    with torch.no_grad():
        if outcome.pattern is None and not loose:
            return (streaming.attend(call.detach(), places, count=flow.counts(call, places))[1],)
        if not loose:
            return (from_pattern(outcome.pattern, places, flow.counts(call, places), lse=outcome.lse),)
        found = []
        for first, last in ((0, rows - loose), *((row, row + 1) for row in range(rows - loose, rows))):
            if last > first:
                index = torch.arange(first, last, device=call.query.device)
                part, here = call.detach().rows(index), places.rows(index)
                count = counts(visible_keys(part), last - first, call.key.shape[2], here)
                if outcome.pattern is not None:
                    lse = None if outcome.lse is None else outcome.lse[:, :, index]
                    found.append(from_pattern(outcome.pattern[:, :, index], here, count, lse=lse))
                else:
                    found.append(streaming.attend(part, here, count=count)[1])
    return tuple(found)


def _projected(plan: Plan, call: Call, places: Places) -> Call:
    q, k, v = call.query, call.key, call.value
    for fix, session in plan.project:
        q, k, v = fix.project(q, k, v, plan.site, context(session, places))
    return replace(call, query=q, key=k, value=v)


def _record(session: Session, site: Site, call: Call, places: Places, outcome: Outcome) -> None:
    want, buffer = session.want, session.buffer(site)
    if want.stats:
        for statistics in outcome.statistics:
            buffer.add_statistics(statistics)
    if want.heads:
        buffer.add_rows("z", outcome.z.detach(), places)
    if want.qkv:
        buffer.add_rows("q", call.query.detach().clone(), places)
        buffer.set("k", call.key.detach().clone())
        buffer.set("v", call.value.detach().clone())
    if want.maps and outcome.pattern is not None:
        session.charge(site, outcome.pattern)
        pattern = outcome.pattern if want.gradients else outcome.pattern.detach()
        buffer.add_rows("maps", pattern, places)
    elif want.rows is not None:
        _record_rows(session, buffer, call, places, outcome)


def _record_rows(session: Session, buffer: Buffer, call: Call, places: Places, outcome: Outcome) -> None:
    index = session.row_index(places)
    if outcome.rows is not None:
        for inside, rows in outcome.rows:
            mine = torch.isin(inside, index)
            if mine.any():
                buffer.add_rows("maps", rows[:, :, mine], places, index=inside[mine])
    elif len(index):
        if outcome.pattern is not None:
            rows = outcome.pattern.detach()[:, :, index]
        else:
            with torch.no_grad():
                rows, _ = dense.pattern(call.detach().rows(index))
        buffer.add_rows("maps", rows, places, index=index)


def _wanted_rows(plan: Plan, places: Places) -> Tensor | None:
    wanted = [session.row_index(places) for session in plan.watch if session.want.rows is not None]
    return torch.cat(wanted).unique() if wanted else None
