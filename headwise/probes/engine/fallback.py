"""The softmax fallback: one pattern of a module that computes attention outside the interface."""

from __future__ import annotations

import torch
from torch import Tensor

from headwise.errors import FixError
from headwise.probes.engine.examples import keep_others
from headwise.probes.engine.plan import Plan, active_edits, apply_edits, context, detailed
from headwise.probes.kernels.call import hidden
from headwise.probes.kernels.statistics import CallLayout, counts, from_pattern, separable
from headwise.probes.kernels.streaming import check_edit


def observe(plan: Plan, scores: Tensor, pattern: Tensor) -> Tensor:
    """Records a pattern (batch, head, query, key) at hand, and returns the one to use.

    Queries, keys, values and outputs are out of reach here. Scaling a head's outputs is scaling its pattern, since z
    is linear in it.
    """
    tracker, site = plan.reference_session.tracker(), plan.site
    batch, _, rows, keys = pattern.shape
    filled = tracker.filled(site.tower, site.kind, rows, keys)
    all_slots, scores = pattern, scores.reshape(pattern.shape)[..., :filled]
    pattern = pattern[..., :filled]
    layout = detailed(plan, tracker.shaped(site.tower, site.kind, batch, rows, filled, pattern.device))
    lowest = torch.finfo(scores.dtype).min / 64  # some models scale after masking
    visibility = (~(scores.detach() <= lowest)).any(1)  # NaN is a score that the model gave
    new = _edited(plan, pattern, layout, visibility)
    lse = torch.logsumexp(scores.detach().float(), -1) if plan.stats and new is pattern else None
    for session, keep in () if plan.recompute else plan.watch:
        buffer = session.buffer(site)
        if keep.stats is not None:
            buffer.keep_heads("received", keep.stats)
            buffer.keep_details(keep.details, cross=layout.cross)
            for index in separable(rows, tracker.revocable(site.tower)):
                part_layout = layout.rows(index)
                count = counts(visibility[:, index], len(part_layout.positions), filled, part_layout)
                some = None if lse is None else lse[:, :, index]
                part_statistics = from_pattern(new[:, :, index], part_layout, count, lse=some)
                own = part_statistics.of_heads(keep.stats).of_details(keep.details, layout.details)
                buffer.statistics.update(own)
        if keep.maps is not None:
            if keep.gradients and new.requires_grad:
                new.retain_grad()
            kept_pattern = keep.maps.of(new if keep.gradients else new.detach(), 1)
            session.charge(site, kept_pattern)
            buffer.keep_heads("maps", keep.maps)
            buffer.add_rows("maps", kept_pattern, layout, sees_key=visibility.any(-1))
        elif keep.rows is not None and len(index := session.row_index(plan.site.tower, layout)):
            kept_pattern = keep.rows.of(new.detach()[:, :, index], 1)
            buffer.keep_heads("maps", keep.rows)
            buffer.add_rows("maps", kept_pattern, layout, index=index, sees_key=visibility.any(-1))
    used = _scaled(plan, new, layout)
    if used is pattern:
        return all_slots
    return torch.nn.functional.pad(used, (0, all_slots.shape[-1] - filled))


def _edited(plan: Plan, pattern: Tensor, layout: CallLayout, visibility: Tensor) -> Tensor:
    edits = active_edits(plan, len(pattern), layout)
    new = apply_edits(plan, edits, pattern, layout, visibility=lambda: visibility)
    if new is not pattern:
        check_edit(new, pattern, outside=hidden(visibility))
    return new


def _scaled(plan: Plan, pattern: Tensor, layout: CallLayout) -> Tensor:
    """The pattern times what the fixes multiply each head's output with."""
    if plan.edit_qkv:
        raise _out_of_reach(plan, "queries, keys and values")
    batch, heads, rows, _ = pattern.shape
    for step in plan.scale:
        if not step.plan.linear:
            raise _out_of_reach(plan, "head outputs")
        ones = torch.ones(batch, rows, heads, 1, dtype=pattern.dtype, device=pattern.device)
        here = context(step, plan.site.tower, layout)
        scaled = pattern * step.fix.scale(ones, plan.site, here).transpose(1, 2)
        pattern = keep_others(step.session, plan.site.tower, scaled, pattern)
    return pattern


def _out_of_reach(plan: Plan, what: str) -> FixError:
    return FixError(
        f"The {what} of this model cannot be replaced.",
        evidence=f"{plan.site.module} computes attention outside the transformers interface",
        remedy="Replace its pattern or its residual instead.",
    )
