"""Calls that threads are in the middle of, read from their Python stacks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType

from torch import nn

_METHODS = frozenset({"generate", "forward", "_call_impl", "_wrapped_call_impl"})
_MODULE_CALL = nn.Module._call_impl.__code__


def module_call() -> FrameType | None:
    """The innermost call of a module that the current thread is in."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not _MODULE_CALL:
        frame = frame.f_back
    return frame


def is_running(frame: FrameType) -> bool:
    """True while a function has not returned, on whatever thread. The variables of one that has are let go.

    Nobody's stack is walked: that of another thread may change under the walk.
    """
    try:
        frame.clear()
    except RuntimeError:  # "cannot clear an executing frame"
        return True
    return False


def runs_of(model: nn.Module) -> dict[int, FrameType]:
    """The outermost run of a model, its `generate` or its forward, that each of the other threads is in."""
    here, runs = threading.get_ident(), {}
    for thread, top in sys._current_frames().items():
        for frame in frames(top) if thread != here else ():
            code = frame.f_code
            named = code.co_name in _METHODS and code.co_argcount
            if named and frame.f_locals.get(code.co_varnames[0]) is model:
                runs[thread] = frame
    return runs


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that have called it, innermost first; of another thread, up to one that ends meanwhile."""
    while isinstance(frame, FrameType) and isinstance(frame.f_code, CodeType):
        yield frame
        frame = frame.f_back
