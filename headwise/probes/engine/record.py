"""Records of an attention call, written for those who watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwise.functional.contribution import write_norms
from headwise.probes.attach.sites import Site
from headwise.probes.engine.plan import AttentionOutput, Plan, Watch
from headwise.probes.kernels import dense, streaming
from headwise.probes.kernels.call import Call, visible_keys
from headwise.probes.kernels.statistics import CallLayout, Statistics, counts_of, from_pattern, separable

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session


def record(plan: Plan, call: Call, layout: CallLayout, output: AttentionOutput) -> None:
    """Keeps for every watching session what it wants of a call."""
    for watch in () if plan.recompute else plan.watch:
        if not watch.session.tracker().current.branch:
            _record(watch, plan.site, call, layout, output)


def statistics(
    plan: Plan, call: Call, layout: CallLayout, output: AttentionOutput, drafts: int
) -> tuple[Statistics, ...]:
    """Statistics beside a kernel that does not give them; the last `drafts` rows one by one."""
    tracker, rows = plan.reference_session.tracker(), call.query.shape[2]
    pattern, lse = output.pattern, output.lse
    with torch.no_grad():
        if not drafts:
            count = tracker.counts(call, layout)
            if pattern is not None:
                return (from_pattern(pattern, layout, count, lse=lse),)
            return (_tiled(call, layout, count),)
        parts = []
        every = torch.arange(rows, device=call.query.device)
        for index in (every[some] for some in separable(rows, drafts)):
            part, part_layout = call.detach().rows(index), layout.rows(index)
            count = counts_of(part, part_layout)
            if pattern is None:
                parts.append(_tiled(part, part_layout, count))
            else:
                part_lse = None if lse is None else lse[:, :, index]
                parts.append(from_pattern(pattern[:, :, index], part_layout, count, lse=part_lse))
    return tuple(parts)


def _tiled(call: Call, layout: CallLayout, count: tuple[Tensor, Tensor]) -> Statistics:
    result = streaming.attend(call.detach(), layout, count=count)[1]
    assert result is not None  # there is a layout
    return result


def _record(watch: Watch, site: Site, call: Call, layout: CallLayout, output: AttentionOutput) -> None:
    session, keep = watch
    buffer = session.buffer(site)
    if keep.stats is not None:
        buffer.keep_heads("received", keep.stats)
        for part in output.statistics:
            buffer.statistics.update(part.of_heads(keep.stats).of_details(keep.details, layout.details))
        buffer.keep_details(keep.details, cross=layout.cross)
    sees_key = _rows_seeing(session, call) if keep.maps or keep.rows or keep.qkv or keep.z else None
    if keep.z is not None:
        buffer.keep_heads("z", keep.z)
        buffer.add_rows("z", keep.z.of(output.z.detach(), 2), layout, sees_key=sees_key)
    if keep.qkv is not None:
        read = keep.qkv.grouped(call.groups)
        buffer.keep_heads("q", keep.qkv)
        buffer.keep_heads("k", read)
        buffer.add_rows("q", keep.qkv.of(call.query.detach(), 1).clone(), layout, sees_key=sees_key)
        behind = call.window is not None and call.window.start > 0
        for name, value in (("k", call.key), ("v", call.value)):
            own = read.of(value.detach(), 1).clone()
            buffer.set(name, own, valid=layout.key_valid, behind=behind, start=layout.key_start)
    if keep.norms is not None:
        _record_norms(watch, site, call, layout)
    if keep.maps is not None and output.pattern is not None:
        pattern = keep.maps.of(output.pattern if keep.gradients else output.pattern.detach(), 1)
        session.charge(site, pattern, call.window and call.window.total)
        buffer.keep_heads("maps", keep.maps)
        if call.window is not None and pattern.requires_grad:
            buffer.set_graph("maps", pattern, (2, 3), call.window)
        else:
            buffer.add_rows("maps", pattern, layout, sees_key=sees_key)
    elif keep.rows is not None:
        _record_rows(watch, site, call, layout, output, sees_key)


def _record_norms(watch: Watch, site: Site, call: Call, layout: CallLayout) -> None:
    """Norms of the values of keys that are new: a sliding cache drops them later."""
    session, heads = watch.session, watch.keep.norms
    assert heads is not None
    buffer = session.buffer(site)
    start = max(layout.key_start, buffer.n_keys("value_norm"))
    fresh = slice(start - layout.key_start, None)
    if call.key.shape[2] <= fresh.start:
        return
    buffer.keep_heads("value_norm", heads)
    values = heads.of(dense.repeat_heads(call.value.detach()[:, :, fresh], call.groups), 1)
    norms = {"value_norm": values.float().norm(dim=-1)}
    projection = session.projections.get(site)
    if projection is not None:
        norms["write_norm"] = write_norms(values, heads.of(projection[None], 1)[0].to(values.device))
    for field, value in norms.items():
        if layout.key_valid is not None:
            value = value.masked_fill(~layout.key_valid[:, None, fresh], torch.nan)
        buffer.add_keys(field, value, start=start)


def _record_rows(
    watch: Watch, site: Site, call: Call, layout: CallLayout, output: AttentionOutput, sees_key: Tensor | None
) -> None:
    session, heads = watch.session, watch.keep.rows
    assert heads is not None
    index, buffer = session.row_index(site.tower, layout), session.buffer(site)
    buffer.keep_heads("maps", heads)
    if output.rows is not None:
        for inside, rows in output.rows:
            mine = torch.isin(inside, index)
            if mine.any():
                own = heads.of(rows[:, :, mine], 1)
                buffer.add_rows("maps", own, layout, index=inside[mine], sees_key=sees_key)
    elif len(index):
        if output.pattern is not None:
            rows = output.pattern.detach()[:, :, index]
        else:
            with torch.no_grad():
                rows, _ = dense.pattern(call.detach().rows(index))
        buffer.add_rows("maps", heads.of(rows, 1), layout, index=index, sees_key=sees_key)


def _rows_seeing(session: Session, call: Call) -> Tensor | None:
    """False on rows that see no key, whose pattern may be NaN by design: where the mask is -inf; None elsewhere."""
    mask = call.mask
    if mask is None or mask.dtype == torch.bool:
        return None
    name = ("sighted", mask.data_ptr(), mask.shape, mask.stride())

    def find() -> tuple[Tensor, Tensor]:
        visibility = visible_keys(call)
        assert visibility is not None  # there is a mask
        return mask, visibility.any(-1).expand(len(call.query), -1)

    return session.tracker().once(name, find)[1]


def wanted_rows(plan: Plan, layout: CallLayout) -> Tensor | None:
    """Rows of a call whose pattern someone keeps, counted within the call."""
    wanted = [
        watch.session.row_index(plan.site.tower, layout)
        for watch in plan.watch
        if watch.keep.rows is not None
    ]
    return torch.cat(wanted).unique() if wanted else None
