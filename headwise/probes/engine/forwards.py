"""The beginning and the end of every outermost forward of a model that something is attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.engine.checkpoints import under_checkpoint
from headwise.probes.engine.examples import copies_of
from headwise.probes.engine.prompt import open_prompt
from headwise.probes.engine.reach import (
    require_no_cuda_graph,
    require_no_vmap,
    require_one_model,
    require_reached,
)
from headwise.probes.engine.residuals import wanted_now
from headwise.probes.engine.session import Session
from headwise.probes.engine.thread_state import ThreadState
from headwise.probes.engine.untraced import untraced
from headwise.probes.generation.caches import cache_among, cache_of, cached_length
from headwise.probes.generation.forward_inputs import (
    bind,
    lacks_positions,
    with_decoder_ids,
    with_flat_masks,
    with_ids,
)
from headwise.probes.generation.given import given
from headwise.probes.serving.managers import complete
from headwise.probes.serving.packed import packed_of, require_packable

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


@untraced
def enter(
    instrumented: Instrumentation, primary: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> None:
    """A forward of the model, or of a part of it, begins; the first of these that holds is what becomes of it.

    inside      another forward is under way on this thread: its depth is counted, no more
    packed      it is one of continuous batching: its requests are taken apart at every attention call
    alone       no session acts on its prompt (`Prompts.sessions` knows which do): the model runs by itself
    followed    the trackers find its run, in the state that this forward brings: prompt, decode, reorder, roll back;
                sessions whose prompt it begins let their fixes begin with it
    """
    local = instrumented.thread_state()
    if module is instrumented.model:
        local.depth = 0
    if local.depth:
        local.depth += 1
        return
    inputs = bind(module, args, kwargs)
    require_no_vmap(inputs)
    require_no_cuda_graph(instrumented.sessions)
    if _begin_packed(instrumented, local, inputs):
        return
    cache = cache_among(inputs.values())
    past = cached_length(cache)
    sessions = _begin(instrumented, local, cache, past)
    if not sessions:
        return
    local.checkpointed = torch.is_grad_enabled() or under_checkpoint()
    require_one_model(module)
    embedded_ids, local.embedded = local.embedded, None
    inputs = with_ids(with_decoder_ids(module, inputs), embedded_ids)
    inputs = with_flat_masks(inputs, past)
    opening = [
        s for s in sessions if s.tracker().enter(primary, inputs, local.generate, cache=cache, past=past)
    ]
    instrumented.caches.add(cache)
    local.streams = instrumented.installed.sees_residual and any(wanted_now(session) for session in sessions)
    for session in sessions:
        session.note_fixes(sessions)
    for session in opening:
        if session.watches:
            session.unplaced |= lacks_positions(inputs)
            session.tracker().current.given = given(inputs, local.generate, past)
        open_prompt(instrumented, session, module, inputs)


@untraced
def leave(
    instrumented: Instrumentation, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any
) -> None:
    """The forward that began last has ended; `output` is None when it failed."""
    local = instrumented.thread_state()
    local.depth = max(0, local.depth - 1)
    if local.depth:
        return
    local.frame = None
    cache = cache_of(output)
    if cache is not None:
        instrumented.caches.add(cache)
    acting = local.listening
    for session in acting:
        session.leave(output, cache)
    if cache is not None and local.generate is None and local.nested is None:
        with instrumented.lock:
            instrumented.prompts.decode(cache, local.active)
    if output is None:
        instrumented.detach_finished_soon()
        return
    skipped = local.skipped()
    instrumented.detach_finished()
    if acting and not local.has_seen(instrumented.modules):
        instrumented.installed.require_whole()
    if acting and skipped:
        require_reached(instrumented, instrumented.installed.out_of_sight(skipped), acting)


@untraced
def embedded(instrumented: Instrumentation, module: nn.Module, args: tuple, output: Any) -> None:
    """Token ids have become embeddings; a model that is handed those no longer knows the ids."""
    ids, local = args[0] if args else None, instrumented.thread_state()
    if isinstance(ids, Tensor) and ids.dim() == 2 and ids.shape[1] > 1 and local.depth == 0:
        local.embedded = (ids, output)


def _begin_packed(instrumented: Instrumentation, local: ThreadState, inputs: dict[str, Any]) -> bool:
    """True when the outermost forward that begins is one of continuous batching."""
    packed = local.packed = packed_of(inputs)
    if packed is None:
        return False
    local.begin()
    with instrumented.lock:
        instrumented.installed.follow()
        instrumented.installed.require_whole()
        packed = local.packed = instrumented.prompts.requests.begin(packed, instrumented.sessions)
        local.activate(tuple(s for s in instrumented.sessions if any(s in own for own in packed.sessions)))
        local.depth, local.streams = 1, False
    if not packed.masked and not instrumented.installed.flash:
        complete(packed.batch.tensors)
    require_packable(local.active)
    return True


def _begin(instrumented: Instrumentation, local: ThreadState, cache: Any, past: int) -> tuple[Session, ...]:
    """An outermost forward begins; returns the sessions that act on it."""
    local.begin()
    call = None if local.generate is None else local.generate.outermost
    with instrumented.lock:
        if local.nested is None:
            local.activate(instrumented.prompts.sessions(instrumented.sessions, call, cache, past))
        local.depth = 1
        acting = local.listening
        if acting:
            instrumented.installed.follow()
    for session in acting:
        if session.examples is not None:
            session.followed.copies = copies_of(local.generate)
    return acting
