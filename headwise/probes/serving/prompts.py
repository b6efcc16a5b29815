"""Prompts and requests of continuous batching under way, and the sessions that each began with and keeps to its end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from headwise.probes.attach.python_stack import is_running, runs_of

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session
    from headwise.probes.engine.thread_state import ThreadState
    from headwise.probes.generation.generate_call import GenerateCall
    from headwise.probes.generation.generation import Generation
    from headwise.probes.serving.packed import Packed


class _Begun(NamedTuple):
    """A prompt under way: the thread that began it, and the sessions it began with."""

    thread: int
    sessions: tuple[Session, ...]
    cache: weakref.ref | None = None
    runs: Mapping[Session, Generation | None] = MappingProxyType({})
    """Of a loop: how its patches have followed it; it may go on in another thread."""


class Prompts:
    """Prompts that are under way on all threads, and the sessions that each of them began with.

    A prompt is a call of `generate`, or what a loop of the user's own decodes with one key-value cache; a forward
    without either is a prompt of its own. What another thread attaches acts on prompts that begin afterwards, and what
    another thread removes acts until those that it acted on have ended. A thread's own patches and captures come and
    go at once. Every method is called with the instrumentation's lock held.
    """

    def __init__(self, model: nn.Module, loop_ended: Callable[[], None]) -> None:
        self._model = model
        self._loop_ended = loop_ended
        self._generations: dict[GenerateCall, _Begun] = {}
        self._loops: dict[int, _Begun] = {}
        """By id of the cache that a loop decodes with."""
        self._earlier: dict[int, FrameType] = {}
        """Frames that threads were in when the first session came, by thread: nobody had seen them begin."""
        self.requests = Requests()
        """Those of continuous batching."""

    def survey(self) -> None:
        """Takes down what the other threads are in the middle of."""
        self._earlier = runs_of(self._model)

    def begin(self, call: GenerateCall, sessions: Iterable[Session]) -> None:
        """An outermost call of `generate` begins on the current thread."""
        begun = tuple(session for session in sessions if session.acts_on_new_prompt())
        self._generations[call] = _Begun(threading.get_ident(), begun)

    def end(self, call: GenerateCall) -> None:
        """An outermost call of `generate` is over."""
        self._generations.pop(call, None)

    def sessions(
        self, attached: Iterable[Session], call: GenerateCall | None, cache: Any, past: int
    ) -> tuple[Session, ...]:
        """Those of the attached sessions that act on the forward which the current thread begins.

        Args:
            attached: all that are attached, in order.
            call: the outermost call of `generate` that the thread is in.
            cache: the key-value cache that the forward was given.
            past: positions in it.
        """
        here = threading.get_ident()
        loop = None
        if call is not None:
            begun = self._generations[call].sessions if call in self._generations else ()
        elif past:
            loop = self._loops.get(id(cache))
            begun = () if loop is None else loop.sessions
        elif self._is_earlier(here):
            begun = ()
        else:
            self._loops.pop(id(cache), None)  # a static cache is used again
            return tuple(session for session in attached if session.acts_on_new_prompt())
        for session, run in () if loop is None else loop.runs.items():
            if run is not None:
                session.tracker().take(run)
        return tuple(
            session
            for session in attached
            if (
                session.belongs_here()
                if session in begun
                else session.opener == here and session.acts_on_new_prompt()
            )
        )

    def decode(self, cache: Any, sessions: tuple[Session, ...]) -> None:
        """A forward outside of `generate` has handed out a cache, for a loop to go on with."""
        name = id(cache)
        if sessions and name not in self._loops:

            def ended(
                _: Any, loops: Any = self._loops, on_end: Callable[[], None] = self._loop_ended
            ) -> None:
                loops.pop(name, None)
                on_end()

            self._loops[name] = _Begun(threading.get_ident(), sessions, weakref.ref(cache, ended))
        begun = self._loops.get(name)
        if begun is not None:
            followed = {session: session.tracker().run for session in sessions if not session.watches}
            if followed != begun.runs:
                self._loops[name] = begun._replace(runs=followed)

    def forget(self, session: Session) -> None:
        """The current thread's prompts go on without a session."""
        here = threading.get_ident()
        for prompts in (self._generations, self._loops):
            for name, begun in list(prompts.items()):
                if begun.thread == here and session in begun.sessions:
                    rest = tuple(other for other in begun.sessions if other is not session)
                    prompts[name] = begun._replace(sessions=rest)  # type: ignore[index]

    def need(self, session: Session, threads: Iterable[ThreadState]) -> bool:
        """True while a prompt is under way that a session acts on."""
        begun = (*self._generations.values(), *list(self._loops.values()))
        if any(session in prompt.sessions for prompt in begun):
            return True
        if self.requests.need(session):
            return True
        inside = [calls.frame for calls in threads if calls.depth and session in calls.active]
        return any(frame is not None and is_running(frame) for frame in inside)

    def _is_earlier(self, thread: int) -> bool:
        """True while a thread is still in what it was in when the first session came."""
        self._earlier = {other: frame for other, frame in self._earlier.items() if is_running(frame)}
        return thread in self._earlier


class _BegunRequest(NamedTuple):
    """A request under way: what its manager knows of it, and the sessions that it began with."""

    state: weakref.ref
    sessions: tuple[Session, ...]


class _Batching:
    """The requests that share one paged cache."""

    def __init__(self, packed: Packed) -> None:
        states, scheduler = packed.batch.states, packed.batch.scheduler
        self._cache = weakref.ref(packed.cache)
        self._scheduler = None if scheduler is None else weakref.ref(scheduler)
        self._begun: dict[str, _BegunRequest] = {}
        fresh = {id(s) for s, start in zip(states, packed.starts, strict=True) if start == 0}
        for state in self._states():  # what was under way when the first session came
            if _is_resumed(state) or (id(state) not in fresh and state.position_offset):
                self._begun[state.request_id] = _BegunRequest(weakref.ref(state), ())

    def sessions(self, state: Any, coming: tuple[Session, ...]) -> tuple[Session, ...]:
        """Those that a request of the forward under way began with: `coming` where it begins now."""
        if state is None:
            return coming
        name = state.request_id
        begun = self._begun.get(name)
        parent = self._begun.get(name.partition("__child#")[0])  # several replies to one prompt
        if begun is not None and (begun.state() is state or _is_resumed(state)):
            sessions = begun.sessions
        elif begun is None and parent is not None:
            sessions = parent.sessions
        else:
            sessions = () if begun is None and _is_resumed(state) else coming
        self._begun[name] = _BegunRequest(weakref.ref(state), sessions)
        return sessions

    def prune(self) -> None:
        """Forgets requests that have ended."""
        self._begun = {name: begun for name, begun in self._begun.items() if self._is_alive(name, begun)}

    def need(self, session: Session) -> bool:
        """True while a request is under way that a session acts on."""
        return any(
            session in begun.sessions and self._is_alive(name, begun)
            for name, begun in list(self._begun.items())
        )

    def _is_alive(self, name: str, begun: _BegunRequest) -> bool:
        cache, scheduler = self._cache(), self._scheduler and self._scheduler()
        if cache is None:
            return False
        if scheduler is None:
            return any(name in allocator.block_table for allocator in cache.cache_allocators.values())
        state = scheduler.waiting_requests.get(name) or scheduler.active_requests.get(name)
        return state is not None and (state is begun.state() or _is_resumed(state))

    def _states(self) -> list[Any]:
        scheduler = self._scheduler and self._scheduler()
        if scheduler is None:
            return []
        return [*scheduler.active_requests.values(), *scheduler.waiting_requests.values()]


class Requests:
    """The requests of all managers that run a model. Every method is called with the instrumentation's lock held."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Any, _Batching] = weakref.WeakKeyDictionary()

    def begin(self, packed: Packed, attached: Iterable[Session]) -> Packed:
        """The requests of a packed forward that begins, each with the sessions that act on it."""
        batching = self._of.get(packed.cache)
        if batching is None:
            batching = self._of[packed.cache] = _Batching(packed)
        batching.prune()
        coming = tuple(session for session in attached if session.acts_on_new_prompt())
        begun = [batching.sessions(state, coming) for state in packed.batch.states]
        return replace(
            packed, sessions=tuple(tuple(session for session in attached if session in own) for own in begun)
        )

    def need(self, session: Session) -> bool:
        """True while a request is under way that a session acts on."""
        return any(batching.need(session) for batching in list(self._of.values()))


def _is_resumed(state: Any) -> bool:
    """True for a request that was put off for want of room, and reads what it has written as a part of its prompt."""
    return bool(getattr(state, "_true_initial_tokens", 0))
