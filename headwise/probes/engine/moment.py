"""Moment of a forward: what is in force, to be put in force again when a layer is run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headwise.probes.engine.session import Session

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation

_NOBODY = -1
"""No thread has this number."""


class Moment:
    """The sessions that act on the current thread's forward, and how far each has followed it."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self._instrumented = instrumented
        self._sessions = instrumented.listening()
        self._calls = instrumented.thread_state().again(self._sessions)
        self._states = [(session, session.still()) for session in self._sessions]

    def places(self, given: tuple) -> list[int | None]:
        """Index of the residual under way among the values that a reentrant checkpoint was given, by session."""
        residuals = [state["entering"] for _, state in self._states]
        return [next((i for i, v in enumerate(given) if v is not None and v is r), None) for r in residuals]

    @contextmanager
    def again(self, places: list[int | None], given: tuple) -> Iterator[None]:
        """Puts in force on the current thread what was in force then, also where nothing is attached any more.

        A reentrant checkpoint hands over values cut from the graph, which the residual is then taken from. Nothing is
        recorded a second time. Other threads do not notice.
        """
        fixes = tuple(fix for session in self._sessions for fix in session.fixes)
        keeper = Session(self._instrumented.model, None, self._instrumented.language, fixes=fixes)
        keeper.thread = _NOBODY
        instrumented = self._instrumented.add(keeper)
        before = [
            session.replace_state(state if place is None else {**state, "entering": given[place]})
            for (session, state), place in zip(self._states, places, strict=True)
        ]
        try:
            with instrumented.instead(self._calls.again(self._sessions)):
                yield
        finally:
            for (session, _), state in zip(self._states, before, strict=True):
                session.replace_state(state)
            instrumented.remove(keeper)
