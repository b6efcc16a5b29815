"""The residual stream on its way through the layers: shown to fixes, recorded for captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.attach.sites import AttentionModule
from headwise.probes.engine.checkpoints import keep_moment
from headwise.probes.engine.examples import keep_others
from headwise.probes.engine.plan import FixStep, context
from headwise.probes.engine.session import Session
from headwise.probes.engine.untraced import untraced

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


@untraced
def enter_layer(
    instrumented: Instrumentation,
    entry: AttentionModule,
    block: nn.Module,
    args: tuple,
    kwargs: dict[str, Any],
) -> Any:
    """The residual enters a layer; returns the arguments to use when a fix changes it."""
    local = instrumented.thread_state()
    if not local.streams:
        return None
    if local.checkpointed or entry.module.training or torch.is_grad_enabled():
        keep_moment(instrumented)
    hidden_states = args[0] if args else kwargs.get("hidden_states")
    hidden = _examples_first(instrumented, hidden_states)
    if hidden is None or not isinstance(hidden_states, Tensor):
        return None
    site = entry.site(local.count(("block", id(entry.module))))
    sessions = _sessions(instrumented)
    new = hidden
    for session in sessions:
        for number, plan in enumerate(session.plans):
            if plan.edits_residual and plan.touches(site, instrumented.language):
                rows = session.tracker().rows(site.tower, hidden.shape[0], hidden.shape[1], hidden.device)
                session.followed.layer_residual = None
                here = context(FixStep(plan, session, number), site.tower, rows)
                changed = plan.fix.edit_residual(new, site, here)
                new = keep_others(session, site.tower, changed, new)
    for session in sessions:
        session.followed.layer_residual = new if session.needs_residual else None
        if not local.repeats and session.options.keeps_residual(site.tower, site.layer):
            rows = session.tracker().rows(site.tower, hidden.shape[0], hidden.shape[1], hidden.device)
            session.buffer(site).add_rows("residual", new.detach().clone(), rows)
    if new is hidden:
        return None
    if hidden_states.dim() == 2:
        new = new[0]
    elif instrumented.family.queries_first:
        new = new.transpose(0, 1)
    return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})


@untraced
def leave_tower(
    instrumented: Instrumentation, entry: AttentionModule, block: nn.Module, args: tuple, output: Any
) -> None:
    """The residual leaves the last layer of a tower."""
    local = instrumented.thread_state()
    hidden = _examples_first(instrumented, output[0] if isinstance(output, (tuple, list)) else output)
    if not local.streams or hidden is None:
        return
    site = entry.site(local.count(("left", id(entry.module))))
    if local.repeats or site.layer != entry.layers[-1]:
        return
    for session in _sessions(instrumented):
        if session.options.keeps_residual(site.tower, site.layer):
            rows = session.tracker().rows(site.tower, hidden.shape[0], hidden.shape[1], hidden.device)
            session.buffer(site).add_rows("final_residual", hidden.detach().clone(), rows)


def _sessions(instrumented: Instrumentation) -> list[Session]:
    """The sessions that act on the forward under way; none outside of one."""
    inside = instrumented.thread_state().depth
    return [one for one in instrumented.listening() if inside and one.tracker().run is not None]


def _examples_first(instrumented: Instrumentation, hidden: Any) -> Tensor | None:
    """What goes from layer to layer as (example, query, width); None where it is something else."""
    if not isinstance(hidden, Tensor) or hidden.dim() not in (2, 3):
        return None
    if hidden.dim() == 2:
        return hidden[None]  # packed images have no batch axis
    return hidden.transpose(0, 1) if instrumented.family.queries_first else hidden


def ever_wanted(session: Session) -> bool:
    """True when a session has use for the residual in some forward."""
    return (
        bool(session.options.residual)
        or session.needs_residual
        or any(plan.edits_residual for plan in session.plans)
    )


def wanted_now(session: Session) -> bool:
    """True when a session has use for the residual of the forward under way."""
    run = session.tracker().current
    decoded = run.past >= run.prompt
    return (
        bool(session.options.residual)
        or session.needs_residual
        or any(
            plan.edits_residual and not (decoded and plan.residual_in_prompt_only) for plan in session.plans
        )
    )
