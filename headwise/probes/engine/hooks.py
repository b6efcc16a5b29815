"""Hooks of an instrumented model. In a copy of the model, or one read back from a file, they do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.attach.sites import AttentionModule
from headwise.probes.engine import forwards
from headwise.probes.engine.residuals import enter_layer
from headwise.probes.kernels.windows import WindowedForward

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation


class _Hook:
    def __reduce__(self) -> tuple[Any, tuple]:
        return (_Nothing, ())


class Enter(_Hook):
    """A forward of the model, or of a part of it, begins."""

    def __init__(self, instrumented: Instrumentation, primary: str) -> None:
        self.instrumented, self.primary = instrumented, primary

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the forward."""
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(
                msg="headwise captures or patches this model, which no single graph can do. Compile it with "
                "fullgraph=False, or write the fix into the weights with hw.bake."
            )
        forwards.enter(self.instrumented, module, self.primary, args, kwargs)


class Leave(_Hook):
    """A forward has ended, or failed."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self.instrumented = instrumented

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """After the forward; `output` is None when it failed."""
        forwards.leave(self.instrumented, output)


class EnterAttention(_Hook):
    """A module that asks the attention interface for its function runs."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self.instrumented = instrumented

    def __call__(self, module: nn.Module, args: tuple) -> None:
        """Before the module."""
        self.instrumented.thread_state().ran.add(id(module))


class EnterBlock(_Hook):
    """The residual enters a layer."""

    def __init__(self, instrumented: Instrumentation, entry: AttentionModule) -> None:
        self.instrumented, self.entry = instrumented, entry

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Before the layer; returns other arguments when a fix changes the residual."""
        return enter_layer(self.instrumented, self.entry, args, kwargs)


class EnterWindows(_Hook):
    """An attention module is about to run, perhaps window by window."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self.instrumented = instrumented

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the forward."""
        hidden = args[0] if args else kwargs.get("hidden_states")
        if isinstance(hidden, Tensor) and hidden.dim() in (2, 3):
            batch = 1 if hidden.dim() == 2 else len(hidden)
            self.instrumented.thread_state().windowed[id(module)] = WindowedForward(batch, hidden.shape[-2])


class Embedded(_Hook):
    """Token ids have become embeddings; a model that is handed those no longer knows the ids."""

    def __init__(self, instrumented: Instrumentation) -> None:
        self.instrumented = instrumented

    def __call__(self, module: nn.Module, args: tuple, output: Any) -> None:
        """After the embedding layer."""
        if args:
            forwards.embedded(self.instrumented, args[0], output)


class _Nothing:
    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None
