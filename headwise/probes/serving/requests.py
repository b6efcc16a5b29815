"""The requests of continuous batching, and the sessions that each of them began with."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session
    from headwise.probes.serving.packed import Packed


class _Begun(NamedTuple):
    """A request under way: what its manager knows of it, and the sessions that it began with."""

    state: weakref.ref
    sessions: tuple[Session, ...]


class _Batching:
    """The requests that share one paged cache."""

    def __init__(self, packed: Packed) -> None:
        states, scheduler = packed.batch.states, packed.batch.scheduler
        self._cache = weakref.ref(packed.cache)
        self._scheduler = None if scheduler is None else weakref.ref(scheduler)
        self._begun: dict[str, _Begun] = {}
        fresh = {id(s) for s, start in zip(states, packed.starts, strict=True) if start == 0}
        for state in self._states():  # what was under way when the first session came
            if _is_resumed(state) or (id(state) not in fresh and state.position_offset):
                self._begun[state.request_id] = _Begun(weakref.ref(state), ())

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
        self._begun[name] = _Begun(weakref.ref(state), sessions)
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

    def _is_alive(self, name: str, begun: _Begun) -> bool:
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
        coming = tuple(session for session in attached if session.begins())
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
