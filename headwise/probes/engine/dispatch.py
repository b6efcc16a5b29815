"""Dispatch of one attention call: to the model's own kernel, the engine, or the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.attach import interface
from headwise.probes.attach.sites import AttentionModule, Site
from headwise.probes.engine import attention, fallback
from headwise.probes.engine.checkpoints import keep_moment
from headwise.probes.engine.plan import Plan, plan_of
from headwise.probes.engine.reach import missing_hooks
from headwise.probes.engine.thread_state import ThreadState
from headwise.probes.engine.untraced import untraced
from headwise.probes.kernels.call import Call, normalise

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


@untraced
def attend(
    instrumented: Instrumentation,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    kwargs: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """One attention call of one of the model's modules."""
    local, name = instrumented.thread_state(), id(module)
    kernel = instrumented.installed.kernels[name]
    if local.packed is not None and local.depth:
        plan = _planned(instrumented, local, module)
        return local.packed.attend(plan, module, query, key, value, mask, kwargs, kernel), None
    if local.checkpointed or module.training or torch.is_grad_enabled():
        keep_moment(instrumented)
    rows = local.windowed.get(name)
    window = None if rows is None else rows.window(query, key)
    site, plan = _site_and_plan(instrumented, local, module, again=window is not None and window.start > 0)
    if instrumented.reference is not None and instrumented.reference in local.listening:
        return instrumented.reference.attend(site, window, module, query, key, value, mask, **kwargs)
    if plan is None:
        return kernel(module, query, key, value, mask, **kwargs)
    eager = name in instrumented.installed.eager
    arguments = interface.call_arguments(kwargs, instrumented.installed.originals[name])
    call = normalise(module, query, key, value, mask, masked=eager, **arguments)
    call = (
        replace(call, window=window)
        if window
        else plan.reference_session.tracker().fit(site.tower, site.kind, call)
    )
    keep = eager and bool(kwargs.get("output_attentions"))

    def native(used: Call) -> Tensor:
        if plan.edit_qkv:
            return kernel(module, used.query, used.key, used.value, used.mask, **kwargs)[0]
        return kernel(module, query, key, value, mask, **kwargs)[0]

    if plan.watch:
        _forecast(instrumented, plan, call)
    output = attention.attend(plan, call, native, training=module.training, keep=keep)
    return output.z, output.pattern


def observe(instrumented: Instrumentation, entry: AttentionModule, scores: Tensor, pattern: Tensor) -> Tensor:
    """One pattern of a module outside the interface; returns the pattern to use."""
    local = instrumented.thread_state()
    if local.checkpointed or entry.module.training or torch.is_grad_enabled():
        keep_moment(instrumented)
    _, plan = _site_and_plan(instrumented, local, entry.module)
    return pattern if plan is None else fallback.observe(plan, scores, pattern)


def _site_and_plan(
    instrumented: Instrumentation, local: ThreadState, module: nn.Module, *, again: bool = False
) -> tuple[Site, Plan | None]:
    """The site of a module's call, and what is to be done there; None when nothing is.

    With `again` the call belongs to the site of the call before: one more window of it.
    """
    if not local.depth and not instrumented.intact():
        raise missing_hooks(module)
    plan = _planned(instrumented, local, module, again=again)
    if plan.idle or plan.reference_session.tracker().run is None:
        return plan.site, None
    if not local.depth and torch._C._current_graph_task_id() != -1:
        return plan.site, None  # run again for a backward pass, of a forward that nobody acted on
    return plan.site, replace(plan, recompute=True) if local.repeats or not local.depth else plan


def _planned(
    instrumented: Instrumentation, local: ThreadState, module: nn.Module, *, again: bool = False
) -> Plan:
    name = (id(module), local.count(id(module), again=again))
    plan = local.plans.get(name)
    if plan is None:
        site = instrumented.modules[id(module)].site(name[1])
        plan = local.plans[name] = plan_of(site, instrumented.listening(), instrumented.language)
    return plan


def _forecast(instrumented: Instrumentation, plan: Plan, call: Any) -> None:
    shape = call.shape if call.window is None else (*call.shape[:2], *(call.window.total,) * 2)
    for session, keep in plan.watch:
        if keep.maps is not None:
            session.forecast(plan.site, shape, call.query.element_size(), instrumented.modules.values())
