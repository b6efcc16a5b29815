"""Memory of a fix of one generation."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor


class Memory:
    """Tensors by name, the batch in front, and numbers; the tensors follow the generation's beams.

    A generation begins with an empty memory. When a beam search reorders its beams, or a prompt is copied for several
    beams, what is remembered is reordered and copied with them. Tensors of a single example stay as they are.

    Example:
        >>> import torch
        >>> memory = Memory()
        >>> memory["heads"] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> memory.reorder(torch.tensor([1, 1]))
        >>> memory.of("heads", 4).tolist()
        [[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [3.0, 4.0]]
    """

    def __init__(self) -> None:
        self._tensors: dict[Hashable, Tensor] = {}
        self._numbers: dict[Hashable, int] = {}

    def __setitem__(self, name: Hashable, value: Tensor | int) -> None:
        if isinstance(value, Tensor):
            self._tensors[name] = value
        else:
            self._numbers[name] = value

    def __contains__(self, name: Hashable) -> bool:
        return name in self._tensors or name in self._numbers

    def forget(self, name: Hashable) -> None:
        """Nothing by this name is remembered any more."""
        self._tensors.pop(name, None)
        self._numbers.pop(name, None)

    def number(self, name: Hashable) -> int:
        """A number that is remembered.

        Raises:
            KeyError: there is none by this name.
        """
        return self._numbers[name]

    def of(self, name: Hashable, batch: int) -> Tensor:
        """Tensor that is remembered, for a call of `batch` examples: copies of an example stand side by side.

        Raises:
            KeyError: there is nothing by this name.
        """
        value = self._tensors[name]
        if len(value) not in (1, batch) and batch % len(value) == 0:
            value = self._tensors[name] = value.repeat_interleave(batch // len(value), 0)
        return value

    def snapshot(self) -> Memory:
        """The same as it is now."""
        twin = Memory()
        twin._tensors, twin._numbers = dict(self._tensors), dict(self._numbers)
        return twin

    def __bool__(self) -> bool:
        return bool(self._tensors or self._numbers)

    def reorder(self, index: Tensor, batch: int | None = None) -> None:
        """Example b continues what example `index[b]` of `batch` examples was; of as many as before when None."""
        before = len(index) if batch is None else batch
        for name, value in self._tensors.items():
            if len(index) != before and len(value) != 1:
                value = self.of(name, before)
            if len(value) == before:
                self._tensors[name] = value.index_select(0, index.to(value.device))
