"""Instrumentation of a model: captures and patches are attached to it, and taken off without a trace."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from headwise.errors import CaptureError
from headwise.families import family_of
from headwise.probes.attach import interface
from headwise.probes.attach.sites import AttentionModule, attention_modules, language_tower
from headwise.probes.check.decoding_trial import require_generate
from headwise.probes.check.reference import Reference
from headwise.probes.engine import dispatch
from headwise.probes.engine.installed_hooks import InstalledHooks
from headwise.probes.engine.reach import no_attention
from headwise.probes.engine.residuals import ever_wanted
from headwise.probes.engine.session import Session
from headwise.probes.engine.thread_state import ThreadState
from headwise.probes.generation.cache_events import CacheWatch, Choice
from headwise.probes.generation.generate_call import GenerateCall
from headwise.probes.serving.continuous_batching import require_batchable
from headwise.probes.serving.prompts import Prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Instrumentation:
    """Everything attached to one model.

    Made when the first session attaches; when the last one leaves, implementation names, hooks and attributes are
    as they were, whatever happened in between.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.modules: dict[int, AttentionModule] = {
            id(entry.module): entry for entry in attention_modules(model)
        }
        if not self.modules:
            raise no_attention(model)
        self.family = family_of(model.config)
        self.language = language_tower([entry.tower for entry in self.modules.values()])
        self.sessions: tuple[Session, ...] = ()
        self.generations: tuple[GenerateCall, ...] = ()
        """The outermost calls of `generate` that are under way, on all threads, in the order in which they began."""
        self._local = threading.local()
        self._threads: weakref.WeakSet[ThreadState] = weakref.WeakSet()
        self.lock = threading.RLock()
        self.prompts = Prompts(model, self.detach_finished_soon)
        self.reference: Reference | None = None
        self.installed = InstalledHooks(self)
        self.caches = CacheWatch(self._reordered, self._cropped)
        self.attend = partial(dispatch.attend, self)
        """One attention call of one of the model's modules."""

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copied or pickled model is not attached to anything."""
        return (type(None), ())

    # -- sessions ------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> Instrumentation:
        """Attaches a session, and returns the instrumentation that took it; on failure the model is as before.

        Where another thread has attached one of its own in the meantime, that one takes the session.
        """
        with self.lock:
            owner = self.model.__dict__.setdefault(interface.INSTRUMENTATION, self)
            if owner is self:
                self._add(session)
                return self
        return owner.add(session)

    def _add(self, session: Session) -> None:
        local = self.thread_state()
        if not any(other.listens() for other in self.sessions):
            local.depth = 0  # an interrupt may have left a forward unfinished
        try:
            if not self.sessions:
                self.installed.install(eager=isinstance(session, Reference))
                self.prompts.survey()
            self.sessions = (*self.sessions, session)
            self._refresh()
        except BaseException:
            self._detach([session])
            raise

    def remove(self, session: Session) -> None:
        """Detaches a session; the last one to leave restores the model.

        Prompts of other threads that a patch acts on end as they began: until then the session stays, `finishing`.
        """
        with self.lock:
            session.followed.layer_residual = None
            session.finishing = True
            if session.scope is not None:
                session.scope.close()
            self.thread_state().forget(session)
            self.prompts.forget(session)
            if session in self.sessions and (
                session.watches or not self.prompts.need(session, self._threads)
            ):
                self._detach([session])

    def detach_finished(self) -> None:
        """Detaches the sessions whose last prompt has ended."""
        if any(session.finishing for session in self.sessions):
            with self.lock:
                threads = list(self._threads)
                ended = [s for s in self.sessions if s.finishing and not self.prompts.need(s, threads)]
                if ended:
                    self._detach(ended)

    def detach_finished_soon(self) -> None:
        """Settles from a place where hooks may not be taken off: amid torch's own, or the garbage collector."""
        if any(session.finishing for session in self.sessions):
            threading.Timer(0.01, self.detach_finished).start()

    def _detach(self, gone: list[Session]) -> None:
        self.sessions = tuple(session for session in self.sessions if session not in gone)
        if self.sessions:
            self._refresh()
        else:
            self.caches.clear()
            self.installed.remove()

    def _refresh(self) -> None:
        """Puts on the model what the sessions need, and no more."""
        self.reference = next((s for s in self.sessions if isinstance(s, Reference)), None)
        self.installed.watch_residual(wanted=any(map(ever_wanted, self.sessions)))
        names = (
            n for n, e in self.modules.items() if any(s.concerns(e, self.language) for s in self.sessions)
        )
        self.installed.watch_modules(set(names))

    @property
    def implementation(self) -> str | None:
        """The attention implementation of the model itself, whatever is attached."""
        return self.installed.implementation(self.model.config)

    def fallback(self) -> list[str]:
        """Modules that were seen through their softmax."""
        return [i.entry.name for i in self.installed.intercepts if i.reached]

    def intact(self) -> bool:
        """True while all of headwise is on the model; False when somebody has taken or replaced a part of it."""
        with self.lock:  # not while another thread attaches or leaves
            return not self.sessions or self.installed.intact

    def implementations(self) -> list[str]:
        """The attention implementations that headwise stands in for, or that are there by themselves."""
        known = self.installed.originals
        return sorted(
            {known.get(name) or _implementation(entry.module) for name, entry in self.modules.items()}
        )

    # -- threads -------------------------------------------------------------------------------------------------

    def listening(self) -> tuple[Session, ...]:
        """The sessions that act on what the current thread is doing with the model."""
        return self.thread_state().listening

    def begin_generate(self, call: GenerateCall) -> None:
        """A call of `generate` begins on the current thread.

        Raises:
            UnsupportedModel: the model cannot be followed when it decodes.
        """
        if call.outer is None:
            if self.thread_state().nested is None and any(session.listens() for session in self.sessions):
                require_generate(self.model, self.implementation, self.language, self.nested_forward, call)
            with self.lock:
                self.prompts.begin(call, self.sessions)
                self.generations = (*self.generations, call)
        self.thread_state().generate = call

    def end_generate(self, call: GenerateCall, result: Any) -> None:
        """A call of `generate` is over; `result` is what it returns, None when it failed."""
        self.thread_state().generate = call.outer
        if call.outer is None:
            with self.lock:
                self.generations = tuple(other for other in self.generations if other is not call)
                self.prompts.end(call)
            self.thread_state().depth = 0  # an interrupt may have left a forward unfinished
        call.close(result)
        for session in self.sessions:
            if session.listens():
                session.tracker().close(call)
        self.detach_finished()

    def require_batchable(self) -> None:
        """Refuses what is attached and cannot act in continuous batching."""
        require_batchable(self.sessions, self.modules.values(), self.language, self.installed.flash)

    def leave_with(self, before: str | None, name: str) -> None:
        """Has the configurations that named one attention before name another one when the last session leaves."""
        with self.lock:
            self.installed.leave_with(before, name)

    @contextmanager
    def nested_forward(self, session: Session) -> Iterator[None]:
        """A forward of the current thread within another one, with fixes of its own; nobody records it."""
        state = ThreadState()
        state.nested = (session,)
        with self.instead(state):
            yield

    @contextmanager
    def instead(self, state: ThreadState) -> Iterator[None]:
        """Takes the current thread for one that does something else."""
        before = self.thread_state()
        self._local.state = state
        try:
            yield
        finally:
            self._local.state = before

    def _reordered(self, cache: Any, choose: Choice) -> None:
        for session in self.listening():
            session.tracker().reorder(cache, choose)

    def _cropped(self, cache: Any) -> None:
        for session in self.listening():
            session.tracker().crop(cache)

    def thread_state(self) -> ThreadState:
        """State of the current thread."""
        try:
            return self._local.state
        except AttributeError:
            self._local.state = state = ThreadState()
            with self.lock:  # `need` looks through them
                self._threads.add(state)
            return state


@contextmanager
def attached(instrumented: Instrumentation, session: Session) -> Iterator[Session]:
    """Attaches a session for the length of a `with` block."""
    owner = instrumented.add(session)
    try:
        yield session
    finally:
        owner.remove(session)


def instrument(model: PreTrainedModel) -> Instrumentation:
    """The instrumentation of a model; a new one when nothing is attached to it."""
    instrumented = model.__dict__.get(interface.INSTRUMENTATION)
    if instrumented is not None:
        return instrumented
    fresh = Instrumentation(model)
    for entry in fresh.modules.values():
        other = entry.module.__dict__.get(interface.INSTRUMENTATION)
        if other is not None and other.model is not model:
            raise CaptureError(
                "A model around this one, or a part of it, is captured or patched already.",
                evidence=f"{type(other.model).__name__} is attached, {type(model).__name__} was asked for",
                remedy="Attach to the same model both times; tower and kind choose the part.",
            )
    return fresh


def _implementation(module: nn.Module) -> str:
    return getattr(getattr(module, "config", None), "_attn_implementation", None) or "eager"
