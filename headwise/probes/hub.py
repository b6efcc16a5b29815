"""Attaches captures and patches to a model, and takes them off without a trace."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import CaptureError
from headwise.probes import interface
from headwise.probes.arguments import Call, normalise
from headwise.probes.attachment import Attachment
from headwise.probes.caches import cache_among, cache_of, cached_length
from headwise.probes.calls import Calls
from headwise.probes.checkpoints import keep_moment, under_checkpoint
from headwise.probes.engine import attend
from headwise.probes.examples import copies_of
from headwise.probes.fallback import observe
from headwise.probes.generate_calls import GenerateCall
from headwise.probes.given import bind, lacks_positions, with_decoder_ids, with_flat_masks, with_ids
from headwise.probes.openings import open_prompt
from headwise.probes.packed import packed_of, require_packable
from headwise.probes.plan import Plan, plan_of
from headwise.probes.prompts import Prompts
from headwise.probes.reach import missing_hooks, no_attention, require_one_model, require_reached
from headwise.probes.reference import Reference
from headwise.probes.residuals import ever_wanted, wanted_now
from headwise.probes.session import Session
from headwise.probes.sites import AttentionModule, Site, attention_modules, language_stack
from headwise.probes.watch import CacheWatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Hub:
    """Everything attached to one model.

    Made when the first session attaches; when the last one leaves, implementation names, hooks and attributes are
    as they were, whatever happened in between.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        found = attention_modules(model)
        if not found:
            raise no_attention(model)
        self.modules: dict[int, AttentionModule] = {id(entry.module): entry for entry in found}
        self.language = language_stack([entry.stack for entry in found])
        self.sessions: tuple[Session, ...] = ()
        self.generations: tuple[GenerateCall, ...] = ()
        """The outermost calls of `generate` that are under way, on all threads, in the order in which they began."""
        self._local = threading.local()
        self._threads: weakref.WeakSet[Calls] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._prompts = Prompts(model, self._settle_soon)
        self._reference: Reference | None = None
        self._attachment = Attachment(self)
        self._caches = CacheWatch(self._reordered, self._cropped)

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copied or pickled model is not attached to anything."""
        return (type(None), ())

    # -- sessions ------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> Hub:
        """Attaches a session, and returns the hub that took it; on failure the model is as before.

        Where another thread has attached a hub of its own in the meantime, that one takes the session.
        """
        with self._lock:
            owner = self.model.__dict__.setdefault(interface.HUB, self)
            if owner is self:
                self._add(session)
                return self
        return owner.add(session)

    def _add(self, session: Session) -> None:
        local = self.calls()
        if not any(other.listens() for other in self.sessions):
            local.depth = 0  # an interrupt may have left a forward unfinished
        try:
            if not self.sessions:
                self._attachment.install(eager=isinstance(session, Reference))
                self._prompts.survey()
            self.sessions = (*self.sessions, session)
            self._refresh()
        except BaseException:
            self._detach([session])
            raise

    def remove(self, session: Session) -> None:
        """Detaches a session; the last one to leave restores the model.

        Prompts of other threads that a patch acts on end as they began: until then the session stays, `finishing`.
        """
        with self._lock:
            session.entering = None
            session.finishing = True
            self.calls().forget(session)
            self._prompts.forget(session)
            if session in self.sessions and (
                session.watches or not self._prompts.need(session, self._threads)
            ):
                self._detach([session])

    def settle(self) -> None:
        """Detaches the sessions whose last prompt has ended."""
        if any(session.finishing for session in self.sessions):
            with self._lock:
                threads = list(self._threads)
                ended = [s for s in self.sessions if s.finishing and not self._prompts.need(s, threads)]
                if ended:
                    self._detach(ended)

    def _settle_soon(self) -> None:
        """Settles from a place where hooks may not be taken off: amid torch's own, or the garbage collector."""
        if any(session.finishing for session in self.sessions):
            threading.Timer(0.01, self.settle).start()

    def _detach(self, gone: list[Session]) -> None:
        self.sessions = tuple(session for session in self.sessions if session not in gone)
        if self.sessions:
            self._refresh()
        else:
            self._caches.clear()
            self._attachment.remove()

    def _refresh(self) -> None:
        """What is on the model follows from who is attached."""
        self._reference = next((s for s in self.sessions if isinstance(s, Reference)), None)
        self._attachment.watch_residual(wanted=any(ever_wanted(session) for session in self.sessions))

    def unreached(self) -> dict[str, str]:
        """Attention modules that ran and could not be seen, and why."""
        return dict(self._attachment.unreached)

    @property
    def implementation(self) -> str | None:
        """The attention implementation of the model itself, whatever is attached."""
        return self._attachment.implementation(self.model.config)

    def fallback(self) -> list[str]:
        """Modules that were seen through their softmax."""
        return [i.entry.name for i in self._attachment.intercepts if i.seen]

    def intact(self) -> bool:
        """True while all of headwise is on the model; False when somebody has taken or replaced a part of it."""
        with self._lock:  # not while another thread attaches or leaves
            return not self.sessions or self._attachment.intact

    def implementations(self) -> list[str]:
        """The attention implementations that headwise stands in for, or that are there by themselves."""
        known = self._attachment.originals
        return sorted(
            {known.get(name) or _implementation(entry.module) for name, entry in self.modules.items()}
        )

    # -- forwards ------------------------------------------------------------------------------------------------

    def listening(self) -> tuple[Session, ...]:
        """The sessions that act on what the current thread is doing with the model."""
        local = self.calls()
        return local.active if local.aside is None else local.aside

    def enter(self, module: nn.Module, primary: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """A forward of the model, or of a part of it, begins."""
        local = self.calls()
        if module is self.model:
            local.depth = 0
        if local.depth:
            local.depth += 1
            return
        inputs = bind(module, args, kwargs)
        if self._begin_packed(local, inputs):
            return
        cache = cache_among(inputs.values())
        sessions = self._begin(local, cache)
        if not sessions:
            return
        local.checkpointed = torch.is_grad_enabled() or under_checkpoint()
        require_one_model(module)
        with self._lock:
            self._attachment.follow()
        seen, local.embedded = local.embedded, None
        inputs = with_ids(with_decoder_ids(module, inputs), seen)
        inputs = with_flat_masks(inputs, cached_length(cache))
        opening = [session for session in sessions if session.flow().enter(primary, inputs, local.generate)]
        self._caches.add(cache)
        local.streams = any(wanted_now(session) for session in sessions)
        for session in opening:
            session.unplaced |= session.watches and lacks_positions(inputs)
            open_prompt(self, session, module, inputs)

    def _begin_packed(self, local: Calls, inputs: dict[str, Any]) -> bool:
        """True when the outermost forward that begins is one of continuous batching."""
        packed = local.packed = packed_of(inputs)
        if packed is None:
            return False
        local.begin()
        with self._lock:
            self._attachment.follow()
            packed = local.packed = self._prompts.requests(packed, self.sessions)
            local.activate(tuple(s for s in self.sessions if any(s in own for own in packed.sessions)))
            local.depth, local.streams = 1, False
        require_packable(local.active)
        return True

    def _begin(self, local: Calls, cache: Any) -> tuple[Session, ...]:
        """An outermost forward begins; returns the sessions that act on it."""
        local.begin()
        call = None if local.generate is None else local.generate.outermost
        past = cached_length(cache)
        with self._lock:
            if local.aside is None:
                local.activate(self._prompts.sessions(self.sessions, call, cache, past))
            local.depth = 1
        for session in local.active:
            if session.examples is not None:
                session.copies = copies_of(local.generate)
        return self.listening()

    def begin_generate(self, call: GenerateCall) -> None:
        """A call of `generate` begins on the current thread."""
        self.calls().generate = call
        if call.outer is None:
            with self._lock:
                self.generations = (*self.generations, call)
                self._prompts.begin(call, self.sessions)

    def end_generate(self, call: GenerateCall, result: Any) -> None:
        """A call of `generate` is over; `result` is what it returns, None when it failed."""
        self.calls().generate = call.outer
        if call.outer is None:
            with self._lock:
                self.generations = tuple(other for other in self.generations if other is not call)
                self._prompts.end(call)
            self.calls().depth = 0  # an interrupt may have left a forward unfinished
        call.close(result)
        for session in self.sessions:
            if session.listens():
                session.flow().close(call)
        self.settle()

    def embedded(self, ids: Any, embeddings: Any) -> None:
        """Token ids have become embeddings."""
        if isinstance(ids, Tensor) and ids.dim() == 2 and ids.shape[1] > 1 and self.calls().depth == 0:
            self.calls().embedded = (ids, embeddings)

    def leave(self, output: Any) -> None:
        """The forward that began last has ended."""
        local = self.calls()
        local.depth = max(0, local.depth - 1)
        if local.depth:
            return
        local.frame = None
        cache = cache_of(output)
        if cache is not None:
            self._caches.add(cache)
        for session in self.listening():
            session.leave(output, cache)
        if cache is not None and local.generate is None and local.aside is None:
            with self._lock:
                self._prompts.decode(cache, local.active)
        if output is None:
            self._settle_soon()
            return
        acting, skipped = self.listening(), local.skipped()
        self.settle()
        if acting and skipped:
            require_reached(self, self._attachment.out_of_sight(skipped), acting)

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """One attention call of one of the model's modules."""
        local = self.calls()
        if local.packed is not None and local.depth:
            kernel = self._attachment.kernels[id(module)]
            plan = self._planned(local, module)
            return local.packed.attend(plan, module, query, key, value, mask, kwargs, kernel), None
        if local.checkpointed or module.training or torch.is_grad_enabled():
            keep_moment(self)
        rows = local.windowed.get(id(module))
        window = None if rows is None else rows.window(query, key)
        site, plan = self.plan(module, again=window is not None and window.start > 0)
        if self._reference is not None and self._reference in self.listening():
            return self._reference.attend(site, window, module, query, key, value, mask, **kwargs)
        kernel = self._attachment.kernels[id(module)]
        if plan is None:
            return kernel(module, query, key, value, mask, **kwargs)
        original = self._attachment.originals[id(module)]
        eager, arguments = interface.is_eager(original), interface.call_arguments(kwargs, original)
        call = normalise(module, query, key, value, mask, masked=eager, **arguments)
        call = replace(call, window=window) if window else plan.leader.flow().fit(site.stack, site.kind, call)
        keep = eager and bool(kwargs.get("output_attentions"))

        def native(used: Call) -> Tensor:
            if plan.project:
                return kernel(module, used.query, used.key, used.value, used.mask, **kwargs)[0]
            return kernel(module, query, key, value, mask, **kwargs)[0]

        self._forecast(plan, call)
        outcome = attend(plan, call, native, training=module.training, keep=keep)
        return outcome.z, outcome.pattern

    def plan(self, module: nn.Module, *, again: bool = False) -> tuple[Site, Plan | None]:
        """The site of a module's call, and what is to be done there; None when nothing is.

        With `again` the call belongs to the site of the call before: one more window of it.
        """
        local = self.calls()
        if not local.depth and not self.intact():
            raise missing_hooks(module)
        plan = self._planned(local, module, again=again)
        if plan.idle or plan.leader.flow().run is None:
            return plan.site, None
        if not local.depth and torch._C._current_graph_task_id() != -1:
            return plan.site, None  # run again for a backward pass, of a forward that nobody acted on
        return plan.site, replace(plan, silent=True) if local.repeats or not local.depth else plan

    def _planned(self, local: Calls, module: nn.Module, *, again: bool = False) -> Plan:
        name = (id(module), local.count(id(module), again=again))
        plan = local.plans.get(name)
        if plan is None:
            site = self.modules[id(module)].site(name[1])
            plan = local.plans[name] = plan_of(site, self.listening(), self.language)
        return plan

    def configurations(self) -> dict[int, str]:
        """The attention that the model's configurations named before, by id of the configuration."""
        return self._attachment.configurations()

    def leave_with(self, before: str | None, name: str) -> None:
        """Has the configurations that named one attention before name another one when the last session leaves."""
        with self._lock:
            self._attachment.leave_with(before, name)

    def observe(self, entry: AttentionModule, scores: Tensor, pattern: Tensor) -> Tensor:
        """One pattern of a module outside the interface; returns the pattern to use."""
        if self.calls().checkpointed or entry.module.training or torch.is_grad_enabled():
            keep_moment(self)
        _, plan = self.plan(entry.module)
        return pattern if plan is None else observe(plan, scores, pattern)

    @contextmanager
    def aside(self, session: Session) -> Iterator[None]:
        """A forward of the current thread within another one, with fixes of its own; nobody records it."""
        calls = Calls()
        calls.aside = (session,)
        with self.instead(calls):
            yield

    @contextmanager
    def instead(self, calls: Calls) -> Iterator[None]:
        """Takes the current thread for one that does something else."""
        before = self.calls()
        self._local.calls = calls
        try:
            yield
        finally:
            self._local.calls = before

    def _forecast(self, plan: Plan, call: Any) -> None:
        shape = call.shape if call.window is None else (*call.shape[:2], *(call.window.total,) * 2)
        for session, keep in plan.watch:
            if keep.maps is not None:
                session.forecast(plan.site, shape, call.query.element_size(), self.modules.values())

    def _reordered(self, cache: Any, index: Tensor) -> None:
        for session in self.listening():
            session.flow().reorder(cache, index)

    def _cropped(self, cache: Any) -> None:
        for session in self.listening():
            session.flow().crop(cache)

    def calls(self) -> Calls:
        """What the current thread is doing with the model."""
        try:
            return self._local.calls
        except AttributeError:
            self._local.calls = calls = Calls()
            with self._lock:  # `need` looks through them
                self._threads.add(calls)
            return calls


@contextmanager
def attached(hub: Hub, session: Session) -> Iterator[Session]:
    """Attaches a session for the length of a `with` block."""
    owner = hub.add(session)
    try:
        yield session
    finally:
        owner.remove(session)


def hub_of(model: PreTrainedModel) -> Hub:
    """The hub of a model; a new one when nothing is attached to it."""
    hub = model.__dict__.get(interface.HUB)
    if hub is not None:
        return hub
    fresh = Hub(model)
    held = next(
        (
            e.module.__dict__[interface.HUB]
            for e in fresh.modules.values()
            if interface.HUB in e.module.__dict__
        ),
        None,
    )
    if held is not None and held.model is not model:
        raise CaptureError(
            "A model around this one, or a part of it, is captured or patched already.",
            evidence=f"{type(held.model).__name__} is attached, {type(model).__name__} was asked for",
            remedy="Attach to the same model both times; stack and kind choose the part.",
        )
    return fresh


def _implementation(module: nn.Module) -> str:
    return getattr(getattr(module, "config", None), "_attn_implementation", None) or "eager"
