"""Hooks of an instrumented model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from headwise.probes.engine.untraced import untraced
from headwise.probes.kernels.windows import WindowedForward

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


class Hook(partial):
    """Hook of an instrumented model. In a copy of the model, or one read back from a file, it does nothing."""

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_Nothing, ())


class _Nothing:
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


@untraced
def enter_attention(instrumented: Instrumentation, module: nn.Module, args: tuple) -> None:
    """A module that asks the attention interface for its function runs."""
    instrumented.thread_state().ran.add(id(module))


@untraced
def enter_windows(
    instrumented: Instrumentation, module: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> None:
    """An attention module is about to run, perhaps window by window."""
    hidden = args[0] if args else kwargs.get("hidden_states")
    if isinstance(hidden, Tensor) and hidden.dim() in (2, 3):
        batch = 1 if hidden.dim() == 2 else len(hidden)
        instrumented.thread_state().windowed[id(module)] = WindowedForward(batch, hidden.shape[-2])
