"""Prompts before they are read: shown to the fixes, which may have the model read them once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from headwise.probes.context import PromptContext
from headwise.probes.engine.session import Session
from headwise.probes.generation.caches import in_pieces, is_cache
from headwise.probes.generation.forward_inputs import batch_of

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation
    from headwise.probes.generation.generation import Generation

_OF_ITS_OWN = ("use_cache", "cache_position", "labels")
"""Arguments, beside its cache, that a forward within another one does not share with it."""


def open_prompt(
    instrumented: Instrumentation, session: Session, module: nn.Module, inputs: dict[str, Any]
) -> None:
    """Lets the fixes of a session begin with a prompt."""
    run = session.tracker().current
    for number, plan in enumerate(session.plans):
        if plan.neutral:
            continue
        if run.indivisible is None and not plan.piecewise:
            run.indivisible = plan.name
            _require_whole(run)
        if plan.has_begin:
            plan.fix.begin(_prompt_context(instrumented, session, number, module, inputs))


def _require_whole(run: Generation) -> None:
    """Refuses the first piece of a prompt where `generate` has more of it."""
    ids, n_prompt = run.ids, 0 if run.loop is None else run.loop.reading
    if run.indivisible is not None and ids is not None and not run.cached_before and ids.shape[1] < n_prompt:
        raise in_pieces(run.indivisible, f"{ids.shape[1]} of its {n_prompt} positions come first")


def _prompt_context(
    instrumented: Instrumentation, session: Session, number: int, module: nn.Module, inputs: dict[str, Any]
) -> PromptContext:
    sessions = instrumented.listening()
    earlier = [fix for other in sessions[: sessions.index(session)] for fix in other.fixes]
    before = (*earlier, *session.fixes[:number])

    def forward(altered: Mapping[str, Any], fix: Any) -> None:
        alone = Session(instrumented.model, session.processor, instrumented.language, fixes=(*before, fix))
        arguments = {n: value for n, value in altered.items() if n not in _OF_ITS_OWN and not is_cache(value)}
        with instrumented.nested_forward(alone), torch.no_grad():
            module(**arguments, **({"use_cache": False} if "use_cache" in altered else {}))

    run = session.tracker().current
    return PromptContext(
        run=run,
        tower=session.plans[number].tower or instrumented.language,
        memory=run.memory(number),
        inputs=inputs,
        batch=batch_of(inputs),
        nested=instrumented.thread_state().nested is not None,
        forward=forward,
    )
