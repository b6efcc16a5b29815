"""Attention outside the transformers interface, seen where it takes its softmax.

While such a module's forward runs, functions named `softmax` are intercepted: their result is the pattern, and
handing back another tensor edits it. Exact where a module forms one (batch, head, query, key) softmax; a module that
does not (banded layouts, fused kernels) is reported as not reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headwise.probes.sites import AttentionModule

if TYPE_CHECKING:
    from headwise.probes.hub import Hub

_HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_BANDED = ("one_sided_attn_window_size",)


class Intercept:
    """Wraps the forward of one attention module for as long as something is attached to its model."""

    def __init__(self, hub: Hub, entry: AttentionModule) -> None:
        self.hub, self.entry = hub, entry
        self.ran = False
        self.seen = False
        self._before: Any = None

    @property
    def refusal(self) -> str | None:
        """Why this module cannot be seen; None when it can, or when it has not run yet."""
        module = self.entry.module
        if any(hasattr(module, name) for name in _BANDED):
            return "its attention is banded, not a query-by-key matrix"
        if self.ran and not self.seen:
            return "it takes no softmax of its own (a fused kernel, or attention without softmax)"
        return None

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

    def pattern(self, scores: Tensor, pattern: Tensor) -> Tensor:
        """Called with the input and the result of a softmax; returns the result to use."""
        folded = self._fold(pattern)
        if folded is None:
            return pattern
        self.seen = True
        new = self.hub.observe(self.entry, scores.reshape(pattern.shape), folded)
        return pattern if new is folded else self._unfold(new, pattern).to(pattern.dtype)

    def _fold(self, tensor: Tensor) -> Tensor | None:
        """As (batch, head, query, key); None when the tensor has another layout."""
        heads = self._heads()
        if heads is None or self.refusal is not None or not tensor.is_floating_point():
            return None
        if tensor.dim() == 3 and tensor.shape[0] % heads == 0:
            return tensor.view(-1, heads, *tensor.shape[1:])
        if tensor.dim() == 4 and tensor.shape[1] == heads:
            return tensor
        if tensor.dim() == 5 and tensor.shape[2] == heads:  # (batch, block, head, query, key)
            return tensor.flatten(0, 1)
        return None

    def _unfold(self, new: Tensor, like: Tensor) -> Tensor:
        return new.reshape(like.shape)

    def _heads(self) -> int | None:
        module = self.entry.module
        places = (module, getattr(module, "config", None))
        for place in places:
            for name in _HEAD_COUNTS:
                count = getattr(place, name, None)
                if isinstance(count, int):
                    return count
        return None


class _Forward:
    """Stands in for a module's forward."""

    def __init__(self, intercept: Intercept, module: nn.Module, before: Any) -> None:
        self.intercept, self.module, self.before = intercept, module, before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = self.before if self.before is not None else type(self.module).forward.__get__(self.module)
        if not self.intercept.hub.listening():
            return run(*args, **kwargs)
        self.intercept.ran = True
        with _SoftmaxMode(self.intercept):
            return run(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, tuple]:
        """A copy of the model keeps the module's own forward."""
        return (_own_forward, (self.module, self.before))


def _own_forward(module: nn.Module, before: Any) -> Any:
    return before if before is not None else type(module).forward.__get__(module)


class _SoftmaxMode(TorchFunctionMode):
    def __init__(self, intercept: Intercept) -> None:
        super().__init__()
        self.intercept = intercept

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") != "softmax" or not isinstance(result, Tensor):
            return result
        scores = args[0] if args else kwargs.get("input")
        if not isinstance(scores, Tensor) or result.dim() < 3:
            return result
        with torch._C.DisableTorchFunction():
            return self.intercept.pattern(scores, result)
