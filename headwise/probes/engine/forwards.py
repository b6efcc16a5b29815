"""The beginning and the end of every outermost forward of a model that something is attached to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.engine.checkpoints import under_checkpoint
from headwise.probes.engine.examples import copies_of
from headwise.probes.engine.openings import open_prompt
from headwise.probes.engine.reach import require_no_vmap, require_one_model, require_reached
from headwise.probes.engine.residuals import wanted_now
from headwise.probes.engine.session import Session
from headwise.probes.engine.thread_state import Calls
from headwise.probes.generation.caches import cache_among, cache_of, cached_length
from headwise.probes.generation.forward_inputs import (
    bind,
    lacks_positions,
    with_decoder_ids,
    with_flat_masks,
    with_ids,
)
from headwise.probes.serving.managers import complete
from headwise.probes.serving.packed import packed_of, require_packable

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Hub


def enter(hub: Hub, module: nn.Module, primary: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """A forward of the model, or of a part of it, begins."""
    local = hub.calls()
    if module is hub.model:
        local.depth = 0
    if local.depth:
        local.depth += 1
        return
    inputs = bind(module, args, kwargs)
    require_no_vmap(inputs)
    if _begin_packed(hub, local, inputs):
        return
    cache = cache_among(inputs.values())
    past = cached_length(cache)
    sessions = _begin(hub, local, cache, past)
    if not sessions:
        return
    local.checkpointed = torch.is_grad_enabled() or under_checkpoint()
    require_one_model(module)
    seen, local.embedded = local.embedded, None
    inputs = with_ids(with_decoder_ids(module, inputs), seen)
    inputs = with_flat_masks(inputs, past)
    opening = [s for s in sessions if s.flow().enter(primary, inputs, local.generate, cache=cache, past=past)]
    hub.caches.add(cache)
    local.streams = hub.attachment.sees_residual and any(wanted_now(session) for session in sessions)
    for session in sessions:
        session.note_fixes(sessions)
    for session in opening:
        session.unplaced |= session.watches and lacks_positions(inputs)
        open_prompt(hub, session, module, inputs)


def leave(hub: Hub, output: Any) -> None:
    """The forward that began last has ended."""
    local = hub.calls()
    local.depth = max(0, local.depth - 1)
    if local.depth:
        return
    local.frame = None
    cache = cache_of(output)
    if cache is not None:
        hub.caches.add(cache)
    acting = local.listening
    for session in acting:
        session.leave(output, cache)
    if cache is not None and local.generate is None and local.aside is None:
        with hub.lock:
            hub.prompts.decode(cache, local.active)
    if output is None:
        hub.settle_soon()
        return
    skipped = local.skipped()
    hub.settle()
    if acting and not local.has_seen(hub.modules):
        hub.attachment.require_whole()
    if acting and skipped:
        require_reached(
            hub.attachment.out_of_sight(skipped),
            acting,
            language=hub.language,
            implementation=hub.implementation,
        )


def embedded(hub: Hub, ids: Any, embeddings: Any) -> None:
    """Token ids have become embeddings."""
    if isinstance(ids, Tensor) and ids.dim() == 2 and ids.shape[1] > 1 and hub.calls().depth == 0:
        hub.calls().embedded = (ids, embeddings)


def _begin_packed(hub: Hub, local: Calls, inputs: dict[str, Any]) -> bool:
    """True when the outermost forward that begins is one of continuous batching."""
    packed = local.packed = packed_of(inputs)
    if packed is None:
        return False
    local.begin()
    with hub.lock:
        hub.attachment.follow()
        hub.attachment.require_whole()
        packed = local.packed = hub.prompts.requests.begin(packed, hub.sessions)
        local.activate(tuple(s for s in hub.sessions if any(s in own for own in packed.sessions)))
        local.depth, local.streams = 1, False
    if not packed.masked and not hub.attachment.flash:
        complete(packed.batch.tensors)
    require_packable(local.active)
    return True


def _begin(hub: Hub, local: Calls, cache: Any, past: int) -> tuple[Session, ...]:
    """An outermost forward begins; returns the sessions that act on it."""
    local.begin()
    call = None if local.generate is None else local.generate.outermost
    with hub.lock:
        if local.aside is None:
            local.activate(hub.prompts.sessions(hub.sessions, call, cache, past))
        local.depth = 1
        acting = local.listening
        if acting:
            hub.attachment.follow()
    for session in acting:
        if session.examples is not None:
            session.copies = copies_of(local.generate)
    return acting
