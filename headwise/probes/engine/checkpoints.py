"""Layers that are run again for the backward pass (gradient checkpointing), as they were run the first time."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING, Any

from headwise.errors import CaptureError
from headwise.probes.engine.session import Session

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


def keep_moment(instrumented: Instrumentation) -> None:
    """Lets every checkpoint that the caller is in run again what was in force at this moment.

    Both kinds of `torch.utils.checkpoint` are found on the tower; what they will run again is put in a wrapper.

    Raises:
        CaptureError: a capture wants gradients of what a reentrant checkpoint computes without a graph.
    """
    if not instrumented.listening():
        return
    reentrant, other = _codes()
    moment: Moment | None = None
    frame = sys._getframe(1)
    while frame is not None:
        holder: Any = None
        arguments: tuple = ()
        if frame.f_code is reentrant:
            _require_no_gradients(instrumented)
            holder, name, arguments = frame.f_locals["ctx"], "run_function", frame.f_locals["args"]
        elif frame.f_code is other and frame.f_locals.get("gen") is not None:
            holder, name = frame.f_locals["gen"].gi_frame.f_locals["new_frame"], "recompute_fn"
        if holder is not None and not isinstance(getattr(holder, name), _Again):
            moment = moment or Moment(instrumented)
            setattr(holder, name, _Again(moment, getattr(holder, name), arguments))
        frame = frame.f_back


def under_checkpoint() -> bool:
    """True when the caller is run by a reentrant checkpoint, without a graph, to be run again with one."""
    reentrant, _ = _codes()
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not reentrant:
        frame = frame.f_back
    return frame is not None


def _require_no_gradients(instrumented: Instrumentation) -> None:
    if any(session.options.gradients for session in instrumented.listening()):
        raise CaptureError(
            "capture(gradients=True) cannot follow reentrant gradient checkpointing.",
            evidence="torch.utils.checkpoint runs this layer without a graph",
            remedy="Enable checkpointing with use_reentrant=False.",
        )


@cache
def _codes() -> tuple[CodeType, CodeType]:
    from torch.utils import checkpoint

    return checkpoint.CheckpointFunction.forward.__code__, inspect.unwrap(checkpoint.checkpoint).__code__


class _Again:
    """Function that a checkpoint runs again."""

    def __init__(self, moment: Moment, function: Callable[..., Any], arguments: tuple) -> None:
        self._moment, self._function = moment, function
        self._indices = moment.residual_indices(arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._moment.again(self._indices, args):
            return self._function(*args, **kwargs)


_NOBODY = -1
"""No thread has this number."""


class Moment:
    """The sessions that act on the current thread's forward, and how far each has followed it."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self._instrumented = instrumented
        self._sessions = instrumented.listening()
        self._calls = instrumented.thread_state().again(self._sessions)
        self._states = [(session, session.snapshot()) for session in self._sessions]

    def residual_indices(self, arguments: tuple) -> list[int | None]:
        """Index of the residual under way among the values that a reentrant checkpoint was given, by session."""
        residuals = [state.get("layer_residual") for _, state in self._states]
        return [
            next((i for i, v in enumerate(arguments) if v is not None and v is r), None) for r in residuals
        ]

    @contextmanager
    def again(self, residual_indices: list[int | None], arguments: tuple) -> Iterator[None]:
        """Puts in force on the current thread what was in force then, also where nothing is attached any more.

        A reentrant checkpoint hands over values cut from the graph, which the residual is then taken from. Nothing is
        recorded a second time. Other threads do not notice.
        """
        fixes = tuple(fix for session in self._sessions for fix in session.fixes)
        keeper = Session(self._instrumented.model, None, self._instrumented.language, fixes=fixes)
        keeper.thread = _NOBODY
        instrumented = self._instrumented.add(keeper)
        before = [
            session.replace_state(state if index is None else {**state, "layer_residual": arguments[index]})
            for (session, state), index in zip(self._states, residual_indices, strict=True)
        ]
        try:
            with instrumented.instead(self._calls.again(self._sessions)):
                yield
        finally:
            for (session, _), state in zip(self._states, before, strict=True):
                session.replace_state(state)
            instrumented.remove(keeper)
