"""Attention outside the transformers interface, seen where it takes its softmax.

While such a module's forward runs, functions named `softmax` are intercepted: their result is the pattern, and
handing back another tensor edits it. Exact where a module forms one (batch, head, query, key) softmax; a module that
does not (banded layouts, fused kernels) is reported as not reached.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headwise.probes.attach.sites import AttentionModule, head_count
from headwise.probes.engine import dispatch
from headwise.probes.engine.untraced import untraced

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Instrumentation

_BANDED = ("one_sided_attn_window_size",)


class Intercept:
    """Wraps the forward of one attention module for as long as something is attached to its model."""

    def __init__(self, instrumented: Instrumentation, entry: AttentionModule) -> None:
        self.instrumented, self.entry = instrumented, entry
        self.reached = False
        self._before: Any = None

    @property
    def refusal(self) -> str:
        """Why this module could not be seen."""
        name = type(self.entry.module).__name__
        if any(hasattr(self.entry.module, attribute) for attribute in _BANDED):
            return f"{name} computes a band, not a query-by-key matrix"
        return f"{name} takes no softmax over a query-by-key matrix (a fused kernel, blocks, or no softmax at all)"

    @property
    def installed(self) -> bool:
        """False when somebody has taken the wrapper off."""
        return "forward" in self.entry.module.__dict__

    def install(self) -> None:
        """Puts the wrapper in place."""
        module = self.entry.module
        self._before = module.__dict__.get("forward")
        module.__dict__["forward"] = _Forward(self, module, self._before)

    def remove(self) -> None:
        """Restores the module's own forward."""
        module = self.entry.module
        if not isinstance(module.__dict__.get("forward"), _Forward):
            return
        if self._before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = self._before

    def pattern(self, scores: Tensor, pattern: Tensor, rows: tuple[int, ...]) -> Tensor:
        """Called with the input and the result of a softmax; returns the result to use.

        `rows` is the shape of the module's input, which the rows of a pattern must match: a softmax over blocks or
        over a few global tokens is not the module's pattern.
        """
        folded = self._fold(pattern, rows)
        if folded is None:
            return pattern
        self.reached = True
        new = dispatch.observe(self.instrumented, self.entry, scores, folded)
        return pattern if new is folded else new.reshape(pattern.shape).to(pattern.dtype)

    def _fold(self, tensor: Tensor, rows: tuple[int, ...]) -> Tensor | None:
        """As (batch, head, query, key); None when the tensor is something else."""
        heads = head_count(self.entry.module)
        banded = any(hasattr(self.entry.module, name) for name in _BANDED)
        if heads is None or banded or not tensor.is_floating_point() or len(rows) < 3:
            return None
        if tensor.dim() == 3 and tensor.shape[0] % heads == 0:
            tensor = tensor.view(-1, heads, *tensor.shape[1:])
        if tensor.dim() != 4 or tensor.shape[1] != heads:
            return None
        queries = tensor.shape[2]
        sequence_first = (queries, tensor.shape[0]) == rows[:2]  # XLNet, FSMT
        grid = queries == math.prod(rows[1:-1])  # rows of patches; the input has height and width in ViTDet
        last = queries == rows[-1] and any(isinstance(m, nn.Conv1d) for m in self.entry.module.children())
        return tensor if grid or sequence_first or last else None


class _Forward:
    """Stands in for a module's forward."""

    def __init__(self, intercept: Intercept, module: nn.Module, before: Any) -> None:
        self.intercept, self.module, self.before = intercept, module, before

    @untraced
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = _own_forward(self.module, self.before)
        if not self.intercept.instrumented.listening():
            return run(*args, **kwargs)
        self.intercept.instrumented.thread_state().ran.add(id(self.module))
        hidden = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        with _SoftmaxMode(self.intercept, () if hidden is None else tuple(hidden.shape)):
            return run(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copy of the model keeps the module's own forward."""
        return (_own_forward, (self.module, self.before))


def _own_forward(module: nn.Module, before: Any) -> Any:
    return before if before is not None else type(module).forward.__get__(module)


class _SoftmaxMode(TorchFunctionMode):
    def __init__(self, intercept: Intercept, rows: tuple[int, ...]) -> None:
        super().__init__()
        self.intercept, self.rows = intercept, rows

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") != "softmax" or not isinstance(result, Tensor):
            return result
        scores = args[0] if args else kwargs.get("input")
        if not isinstance(scores, Tensor) or result.dim() < 3:
            return result
        with torch._C.DisableTorchFunction():
            return self.intercept.pattern(scores, result, self.rows)
