"""Windows: calls of one module that share out the rows of its forward are one attention, in blocks.

Towers that pack their pictures into one row of patches (Qwen-VL and its relatives) call the attention function once
per window, or once per picture. No row looks out of its own window, so together the calls are one pattern over the
tower that is zero outside of the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOWERS = ("vision", "encoder")
"""Towers whose modules may work in windows."""


@dataclass(frozen=True)
class Window:
    """The rows of one call among those of the forward of its module."""

    start: int
    total: int


class WindowedForward:
    """One forward of an attention module: how many of its rows its calls have taken so far."""

    def __init__(self, batch: int, total: int) -> None:
        self.batch, self.total = batch, total
        self.taken = 0

    def window(self, query: Tensor, key: Tensor) -> Window | None:
        """The window that the next call is; None where a call has all rows, or other keys than its rows."""
        batch, _, rows, _ = query.shape
        if (
            batch != self.batch
            or rows != key.shape[2]
            or rows == self.total
            or self.taken + rows > self.total
        ):
            return None
        window = Window(self.taken, self.total)
        self.taken += rows
        return window


def blocks(before: Tensor | None, pattern: Tensor, window: Window) -> Tensor:
    """The whole pattern with the block of one more window in it."""
    index = slice(window.start, window.start + pattern.shape[-1])
    if before is None:
        before = pattern.new_zeros(*pattern.shape[:2], window.total, window.total)
    before[..., index, index] = pattern
    return before


def gathered(before: Tensor | None, part: Tensor, window: Window, axes: tuple[int, ...]) -> Tensor:
    """A leaf that stands for a tensor of all windows; it takes the gradients that `backward` gives to the parts.

    Args:
        before: the leaf with the windows so far; None for the first.
        part: the tensor of one more window, on the graph.
        window: where it is.
        axes: its axes that count the rows of the window.
    """
    if before is None:
        shape = [window.total if axis in axes else size for axis, size in enumerate(part.shape)]
        before = part.new_zeros(shape).requires_grad_()
    leaf, rows = before, [slice(window.start, window.start + size) for size in part.shape]
    index = tuple(span if axis in axes else slice(None) for axis, span in enumerate(rows))
    leaf.data[index] = part.detach()

    def take(gradient: Tensor) -> None:
        if leaf.grad is None:
            leaf.grad = torch.zeros_like(leaf)
        leaf.grad[index] = gradient

    if part.requires_grad:
        part.register_hook(take)
    return leaf
