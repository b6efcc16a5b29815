"""The scope of a patch of one thread alone: a context, or the generator that opened the patch."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import inspect
import sys
import threading
import weakref
from contextvars import ContextVar
from types import FrameType
from typing import Any

from headwise.errors import FixError
from headwise.probes.attach.python_stack import frames

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_CONTEXTLIB = contextlib.contextmanager.__code__.co_filename
_YIELD, _RESUME = dis.opmap["YIELD_VALUE"], dis.opmap["RESUME"]
_AFTER_YIELD = (1, 2)
"""Arguments of RESUME where a generator goes on after `yield` or `yield from`; after `await` it is 3."""

_OPENED: ContextVar[tuple[weakref.ref[Scope], ...]] = ContextVar("headwise_scopes", default=())
"""The scopes that were opened in a context."""


class Scope:
    """Scope of a patch of one thread alone.

    Its context: a thread, or a task of asyncio and what that hands to a thread. A generator has no context of its
    own: each `next` runs in that of its caller, and a server may call it in another one for every token. So a patch
    that was opened in a generator also acts on whatever runs within the generator.
    """

    def __init__(self) -> None:
        self._generator = _generator()
        self._place = _place()
        others = tuple(other for other in _OPENED.get() if other() is not None)
        _OPENED.set((*others, weakref.ref(self)))

    def holds(self) -> bool:
        """True when the current thread, in its current context, is within the scope."""
        return self._inside() or self._opened_here()

    def require_clear(self) -> None:
        """Refuses a prompt of which nobody can tell whether it is the generator's or its caller's."""
        generator = self._generator
        if (
            generator is not None
            and not self._inside()
            and self._opened_here()
            and _place() == self._place
            and _stands_at_yield(generator)
        ):
            raise FixError(
                "A generator that stands at a yield has opened a patch of this thread, and something else runs the "
                "model meanwhile: it cannot be told whether the patch is meant for that.",
                evidence=f"{generator.f_code.co_qualname}, line {generator.f_lineno}",
                remedy="For the generator alone, step it with contextvars.copy_context().run(next, generator); for "
                "what its caller does, too, open the patch outside of the generator, or make it a context manager "
                "with contextlib.contextmanager. To end the patch: generator.close().",
            )

    def close(self) -> None:
        """The patch is removed; the variables of the generator are let go."""
        self._generator = None

    def _inside(self) -> bool:
        return self._generator is not None and any(f is self._generator for f in frames(sys._getframe()))

    def _opened_here(self) -> bool:
        return any(other() is self for other in _OPENED.get())


def _generator() -> FrameType | None:
    """The innermost generator that the current thread is in, but for those that a context manager is made of."""
    for frame in frames(sys._getframe()):
        if frame.f_code.co_flags & _GENERATORS:
            back = frame.f_back
            if back is None or back.f_code.co_filename != _CONTEXTLIB:
                return frame
    return None


def _stands_at_yield(frame: FrameType) -> bool:
    """True for a generator that has yielded and was not resumed; False for one that runs, awaits or has ended."""
    code, at = frame.f_code.co_code, frame.f_lasti
    if frame.f_back is not None or at < 0:
        return False
    if code[at] == _YIELD:
        at += 2
    return at + 1 < len(code) and code[at] == _RESUME and code[at + 1] & 3 in _AFTER_YIELD


def _place() -> tuple[int, Any]:
    """The current thread, and the task of asyncio that it works on."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        task = None
    return threading.get_ident(), None if task is None else weakref.ref(task)
