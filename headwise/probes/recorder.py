"""Writes what a call gave into the records of those who watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headwise.probes import dense, streaming
from headwise.probes.arguments import Call
from headwise.probes.plan import Outcome, Plan
from headwise.probes.sites import Site
from headwise.probes.statistics import Places, Statistics, counts_of, from_pattern

if TYPE_CHECKING:
    from headwise.probes.session import Session


def record(plan: Plan, call: Call, places: Places, outcome: Outcome) -> None:
    """Keeps for every watching session what it wants of a call."""
    for session in () if plan.silent else plan.watch:
        _record(session, plan.site, call, places, outcome)


def statistics(
    plan: Plan, call: Call, places: Places, outcome: Outcome, loose: int
) -> tuple[Statistics, ...]:
    """Statistics beside a kernel that does not give them; the last `loose` rows one by one."""
    flow, rows = plan.leader.flow(), call.query.shape[2]
    pattern, lse = outcome.pattern, outcome.lse
    with torch.no_grad():
        if not loose:
            count = flow.counts(call, places)
            if pattern is not None:
                return (from_pattern(pattern, places, count, lse=lse),)
            return (_tiled(call, places, count),)
        found = []
        for first, last in ((0, rows - loose), *((row, row + 1) for row in range(rows - loose, rows))):
            if last > first:
                index = torch.arange(first, last, device=call.query.device)
                part, here = call.detach().rows(index), places.rows(index)
                count = counts_of(part, here)
                if pattern is None:
                    found.append(_tiled(part, here, count))
                else:
                    some = None if lse is None else lse[:, :, index]
                    found.append(from_pattern(pattern[:, :, index], here, count, lse=some))
    return tuple(found)


def _tiled(call: Call, places: Places, count: tuple[Tensor, Tensor]) -> Statistics:
    found = streaming.attend(call.detach(), places, count=count)[1]
    assert found is not None  # places were given
    return found


def _record(session: Session, site: Site, call: Call, places: Places, outcome: Outcome) -> None:
    want, buffer = session.want, session.buffer(site)
    if want.stats:
        for found in outcome.statistics:
            buffer.add_statistics(found)
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
        _record_rows(session, site, call, places, outcome)


def _record_rows(session: Session, site: Site, call: Call, places: Places, outcome: Outcome) -> None:
    index, buffer = session.row_index(site.stack, places), session.buffer(site)
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


def wanted_rows(plan: Plan, places: Places) -> Tensor | None:
    """Rows of a call whose pattern someone keeps, counted within the call."""
    wanted = [
        session.row_index(plan.site.stack, places) for session in plan.watch if session.want.rows is not None
    ]
    return torch.cat(wanted).unique() if wanted else None
