"""One attention call: the cheapest way to observe and edit it that serves everyone who asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from headwise.probes.engine.plan import (
    AttentionOutput,
    FixSteps,
    Plan,
    active_edits,
    apply_edits,
    detailed,
    edit_qkv,
    edited_rows,
    scale,
    unedited,
    visibility_of,
)
from headwise.probes.engine.record import record, statistics, wanted_rows
from headwise.probes.kernels import dense, streaming
from headwise.probes.kernels.call import Call, hidden, visible_keys
from headwise.probes.kernels.statistics import CallLayout

Native = Callable[[Call], Tensor]
"""The model's own kernel."""

_WHOLE = 2**20
"""A pattern of at most this many elements is edited in one piece, exactly as eager attention would form it."""


def attend(
    plan: Plan, call: Call, native: Native, *, training: bool = False, keep: bool = False
) -> AttentionOutput:
    """Runs one call under a plan, and keeps the records.

    The modes: the model's own kernel (off; z only; chosen rows, computed beside it), tiles (statistics, long edits),
    one row (decode steps), the whole pattern (maps, short edits, gradients). With `keep` the pattern is returned to
    the model.
    """
    tracker = plan.reference_session.tracker()
    layout = tracker.call_layout(plan.site.tower, plan.site.kind, call, labels=bool(plan.watch))
    layout = detailed(plan, layout)
    if plan.edit_qkv:
        call = edit_qkv(plan, call, layout)
    edits = active_edits(plan, len(call.query), layout) if plan.edit else []
    drafts = tracker.revocable(plan.site.tower) if plan.stats else 0
    output = _run(plan, call, layout, edits, native, drafts=drafts, maps=keep or plan.maps, training=training)
    if plan.stats and not output.statistics:
        output.statistics = statistics(plan, call, layout, output, drafts)
    if plan.some_examples and edits and not plan.watch:
        output.z = unedited(plan, output.z, lambda: native(call))
    for session in plan.comparisons:
        session.compare(plan.site, native(call), output.z, layout.query_valid)
    output.z = scale(plan, output.z, layout)
    record(plan, call, layout, output)
    return output


def _run(
    plan: Plan,
    call: Call,
    layout: CallLayout,
    edits: FixSteps,
    native: Native,
    *,
    drafts: int,
    maps: bool,
    training: bool,
) -> AttentionOutput:
    """The call in the cheapest mode."""
    batch, heads, rows, keys = call.shape
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in (call.query, call.key, call.value))
    if graph and plan.gradients:
        return _graph(plan, call, layout, edits, maps=maps, training=training)
    if not (edits or maps) and (drafts or graph or not plan.stats):
        return AttentionOutput(native(call))
    if rows == 1 and not graph:
        return _decode(plan, call, layout, edits)
    whole = any(step.plan.needs_all_rows for step in edits)
    if maps or drafts or graph or whole:
        return _materialised(plan, call, layout, edits, native, maps=maps, training=training)
    if edits and not (plan.stats or plan.rows) and all(step.plan.names_rows for step in edits):
        return AttentionOutput(_edit_rows(plan, call, layout, edits, native(call)))
    if edits and batch * heads * rows * keys <= _WHOLE:
        return _materialised(plan, call, layout, edits, native, maps=maps, training=training)
    return _streamed(plan, call, layout, edits)


def _graph(
    plan: Plan, call: Call, layout: CallLayout, edits: FixSteps, *, maps: bool, training: bool
) -> AttentionOutput:
    """The differentiable form: per-head values, outputs and (for maps) the pattern keep their gradients."""
    values = dense.repeat_heads(call.value, call.groups)
    values = values if values.requires_grad else values.detach().requires_grad_()
    values.retain_grad()
    wide = replace(call, key=dense.repeat_heads(call.key, call.groups), value=values)
    pattern = lse = None
    if maps or edits or call.softcap is not None or call.bias is not None or call.sinks is not None:
        pattern, lse = dense.pattern(wide)
        pattern = apply_edits(plan, edits, pattern, layout, visibility=visibility_of(wide, layout))
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
    for watch in plan.watch:
        if watch.keep.gradients and not plan.recompute:
            buffer = watch.session.buffer(plan.site)
            buffer.set_graph("v_heads", values, (2,), call.window)
            buffer.set_graph("z_graph", z, (1,), call.window)
    return AttentionOutput(z, pattern, lse)


def _decode(plan: Plan, call: Call, layout: CallLayout, edits: FixSteps) -> AttentionOutput:
    pattern, lse = dense.decode_row(call, lse=plan.stats)
    new = apply_edits(plan, edits, pattern, layout, slice(0, 1), visibility=visibility_of(call, layout))
    if new is not pattern and call.mask is not None:
        streaming.check_edit(new, pattern, outside=hidden(visible_keys(call)), first_row=layout.positions[0])
    return AttentionOutput(dense.apply_row(new, call), new, lse if new is pattern else None)


def _materialised(
    plan: Plan, call: Call, layout: CallLayout, edits: FixSteps, native: Native, *, maps: bool, training: bool
) -> AttentionOutput:
    """Whole pattern, the one that eager attention forms.

    With maps, outputs are computed from it, so that deeper layers see what they would see under eager. Without, an
    edit that changed nothing leaves the model's own outputs, bit for bit.
    """
    pattern, lse = dense.pattern(call)
    new = apply_edits(plan, edits, pattern, layout, visibility=visibility_of(call, layout))
    if new is pattern or (not new.requires_grad and torch.equal(new, pattern)):
        z = dense.apply_pattern(pattern, call, training=training) if maps else native(call)
        return AttentionOutput(z, pattern, lse)
    streaming.check_edit(new, pattern, outside=hidden(visible_keys(call)), first_row=layout.positions[0])
    return AttentionOutput(dense.apply_pattern(new, call, training=training), new)


def _streamed(plan: Plan, call: Call, layout: CallLayout, edits: FixSteps) -> AttentionOutput:
    kept_rows: list[tuple[Tensor, Tensor]] = []
    wanted = wanted_rows(plan, layout) if edits else None

    def edit(pattern: Tensor, block: slice) -> Tensor:
        new = apply_edits(plan, edits, pattern, layout, block, visibility=visibility_of(call, layout, block))
        if wanted is not None:
            inside = wanted[(wanted >= block.start) & (wanted < block.stop)]
            kept_rows.append((inside, new[:, :, inside - block.start].clone()))
        return new

    count = plan.reference_session.tracker().counts(call, layout) if plan.stats else None
    z, statistics = streaming.attend(
        call, layout if plan.stats else None, edit=edit if edits else None, count=count
    )
    return AttentionOutput(
        z,
        None,
        None,
        () if statistics is None else (statistics,),
        None if wanted is None else tuple(kept_rows),
    )


def _edit_rows(plan: Plan, call: Call, layout: CallLayout, edits: FixSteps, z: Tensor) -> Tensor:
    """Edits the rows that the fixes ask for; every other row keeps the model's own output."""
    index = edited_rows(plan, edits, len(call.query), layout)
    part = call.rows(index)
    pattern, _ = dense.pattern(part)
    some = layout.rows(index)
    new = apply_edits(plan, edits, pattern, some, visibility=visibility_of(part, some))
    if new is pattern or torch.equal(new, pattern):
        return z
    streaming.check_edit(new, pattern, outside=hidden(visible_keys(part)), first_row=index[0])
    z = z.clone()
    z[:, index] = dense.apply_pattern(new, part)
    return z
