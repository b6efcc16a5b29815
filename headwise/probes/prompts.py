"""Which sessions act on a prompt: those that were attached when it began, until it ends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from headwise.probes.packed import requests_of
from headwise.probes.python_stack import is_running, runs_of

if TYPE_CHECKING:
    from headwise.probes.calls import Calls
    from headwise.probes.generate_calls import GenerateCall
    from headwise.probes.packed import Packed
    from headwise.probes.session import Session


class _Begun(NamedTuple):
    """A prompt under way: the thread that began it, and the sessions it began with."""

    thread: int
    sessions: tuple[Session, ...]
    cache: weakref.ref | None = None


class Prompts:
    """Prompts that are under way on all threads, and the sessions that each of them began with.

    A prompt is a call of `generate`, or what a loop of the user's own decodes with one key-value cache; a forward
    without either is a prompt of its own. What another thread attaches acts on prompts that begin afterwards, and what
    another thread removes acts until those that it acted on have ended. A thread's own patches and captures come and
    go at once. Every method is called with the hub's lock held.
    """

    def __init__(self, model: nn.Module, loop_ended: Callable[[], None]) -> None:
        self._model = model
        self._loop_ended = loop_ended
        self._generations: dict[GenerateCall, _Begun] = {}
        self._loops: dict[int, _Begun] = {}
        """By id of the cache that a loop decodes with."""
        self._earlier: dict[int, FrameType] = {}
        """What a thread was in when the first session came, by thread: nobody had seen it begin."""
        self._requests: weakref.WeakKeyDictionary[Any, dict[str, tuple[Session, ...]]] = (
            weakref.WeakKeyDictionary()
        )
        """By paged cache: the requests of continuous batching, and the sessions that each began with."""

    def survey(self) -> None:
        """Takes down what the other threads are in the middle of."""
        self._earlier = runs_of(self._model)

    def begin(self, call: GenerateCall, sessions: Iterable[Session]) -> None:
        """An outermost call of `generate` begins on the current thread."""
        begun = tuple(session for session in sessions if not session.finishing)
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
        if call is not None:
            begun = self._generations[call].sessions if call in self._generations else ()
        elif past:
            loop = self._loops.get(id(cache))
            begun = () if loop is None else loop.sessions
        elif self._is_earlier(here):
            begun = ()
        else:
            self._loops.pop(id(cache), None)  # a static cache is used again
            begun = tuple(session for session in attached if not session.finishing)
        return tuple(
            session
            for session in attached
            if session.listens() and (session in begun or (session.opener == here and not session.finishing))
        )

    def decode(self, cache: Any, sessions: tuple[Session, ...]) -> None:
        """A forward outside of `generate` has handed out a cache, for a loop to go on with."""
        if sessions and id(cache) not in self._loops:
            name = id(cache)

            def ended(_: Any, loops: Any = self._loops, told: Callable[[], None] = self._loop_ended) -> None:
                loops.pop(name, None)
                told()

            self._loops[name] = _Begun(threading.get_ident(), sessions, weakref.ref(cache, ended))

    def requests(self, packed: Packed, attached: Iterable[Session]) -> Packed:
        """The requests of a packed forward, each with the sessions that act on it."""
        coming = tuple(s for s in attached if s.listens() and not s.finishing)
        known = self._requests.get(packed.cache)
        held = requests_of(packed.cache)
        if known is None:  # what the cache held before was under way when the first session came
            known = dict.fromkeys(held, ())
            fresh = [name for name, start in zip(packed.names, packed.starts, strict=True) if start == 0]
            known = {name: () for name in known if name not in fresh}
        known = {name: begun for name, begun in known.items() if name in held}
        sessions = []
        for name in packed.names:
            begun = coming if name is None else known.setdefault(name, coming)
            sessions.append(tuple(session for session in attached if session in begun))
        self._requests[packed.cache] = known
        return replace(packed, sessions=tuple(sessions))

    def forget(self, session: Session) -> None:
        """The current thread's prompts go on without a session."""
        here = threading.get_ident()
        for prompts in (self._generations, self._loops):
            for name, begun in list(prompts.items()):
                if begun.thread == here and session in begun.sessions:
                    rest = tuple(other for other in begun.sessions if other is not session)
                    prompts[name] = begun._replace(sessions=rest)  # type: ignore[index]

    def need(self, session: Session, threads: Iterable[Calls]) -> bool:
        """True while a prompt is under way that a session acts on."""
        begun = (*self._generations.values(), *list(self._loops.values()))
        if any(session in prompt.sessions for prompt in begun):
            return True
        for cache, requests in list(self._requests.items()):
            held = requests_of(cache)
            if any(session in sessions and name in held for name, sessions in requests.items()):
                return True
        inside = [calls.frame for calls in threads if calls.depth and session in calls.active]
        return any(frame is not None and is_running(frame) for frame in inside)

    def _is_earlier(self, thread: int) -> bool:
        """True while a thread is still in what it was in when the first session came."""
        self._earlier = {other: frame for other, frame in self._earlier.items() if is_running(frame)}
        return thread in self._earlier
