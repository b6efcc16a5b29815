"""State of a thread that uses an instrumented model."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

from torch import Tensor

from headwise.probes.attach.python_stack import module_call
from headwise.probes.engine.plan import Plan
from headwise.probes.engine.session import Session
from headwise.probes.generation.generate_call import GenerateCall
from headwise.probes.kernels.windows import WindowedForward
from headwise.probes.serving.packed import Packed


class ThreadState:
    """State of a thread: how deep in forwards it is, how often each module was called."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.depth = 0
        self.frame: FrameType | None = None
        """The call of a module that is the outermost forward under way; an interrupt may leave one that has ended."""
        self.active: tuple[Session, ...] = ()
        """The sessions that act on the outermost forward under way, or on the last one."""
        self.packed: Packed | None = None
        """The requests of the forward under way, when it is one of continuous batching."""
        self.plans: dict[tuple[int, int], Plan] = {}
        self.nested: tuple[Session, ...] | None = None
        """The sessions of a forward within another one; None outside of such."""
        self.repeats = False
        """True when a part of an earlier forward is run again, which nobody records."""
        self.generate: GenerateCall | None = None
        """The innermost call of `generate` under way; None outside of `generate`."""
        self.embedded: tuple[Tensor, Tensor] | None = None
        """Ids and embeddings that were made outside of a forward."""
        self.streams = False
        """True when someone wants the residual of the forward under way."""
        self.checkpointed = False
        """True when layers of the forward under way may be run again for a backward pass."""
        self.ran: set[int] = set()
        """Attention modules that ran in the forward under way, by id."""
        self.windowed: dict[int, WindowedForward] = {}
        """The forward under way of every module that may work in windows, by its id."""
        self._counts: dict[Any, int] = {}
        self._counts_again: dict[Any, int] = {}

    def begin(self) -> None:
        """An outermost forward begins."""
        self.frame = module_call()
        self.ran.clear()
        self._counts.clear()
        self._counts_again.clear()

    def activate(self, sessions: tuple[Session, ...]) -> None:
        """The sessions that act on the forward which begins."""
        if sessions != self.active:
            self.active, self.plans = sessions, {}

    def forget(self, session: Session) -> None:
        """A session acts no longer, not even on the forward under way."""
        self.activate(tuple(other for other in self.active if other is not session))

    @property
    def listening(self) -> tuple[Session, ...]:
        """The sessions that act on what the thread is doing with the model."""
        return self.active if self.nested is None else self.nested

    def has_seen(self, modules: Iterable[int]) -> bool:
        """True when all of some attention modules, by id, came to headwise in the forward at its end."""
        return all(map(self._counts.__contains__, modules))

    def skipped(self) -> list[int]:
        """Modules that ran in the forward at its end, and of which headwise saw nothing."""
        return [module for module in self.ran if module not in self._counts]

    def again(self, sessions: tuple[Session, ...]) -> ThreadState:
        """The same, for a part of the forward that is run again, with the sessions that acted on it."""
        twin = ThreadState()
        twin.nested, twin.repeats = sessions, True
        twin.depth, twin.streams, twin._counts = self.depth, self.streams, dict(self._counts)
        return twin

    def count(self, name: Any, *, again: bool = False) -> int:
        """The number of this call of a module; that of the call before with `again`.

        Outside a forward a layer is called on its own, or once more for the backward pass: its calls repeat.
        """
        calls = self._counts if self.depth else self._counts_again
        number = calls.get(name, 0) - again
        calls[name] = number + 1
        return number if self.depth else number % max(1, self._counts.get(name, 0))
