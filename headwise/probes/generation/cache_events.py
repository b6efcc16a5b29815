"""Events of key-value caches between two forwards: beam search, roll-backs, changes of the batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Choice = Callable[[int], Tensor]
"""Of a number of examples: which of them every example is from now on."""


class CacheWatch:
    """Tells listeners when examples of a cache change, or it is cropped. Caches are held weakly, and left untouched."""

    def __init__(self, reordered: Callable[[Any, Choice], None], cropped: Callable[[Any], None]) -> None:
        self._watched: dict[int, weakref.ref] = {}
        self._listeners: dict[str, Callable[..., None]] = {
            "reorder_cache": lambda cache, index: reordered(cache, lambda _: index),
            "batch_select_indices": lambda cache, index: reordered(
                cache, lambda count: _selected(count, index)
            ),
            "batch_repeat_interleave": lambda cache, times: reordered(
                cache, lambda count: torch.arange(count).repeat_interleave(times)
            ),
            "crop": lambda cache, _: cropped(cache),
        }

    def add(self, cache: Any) -> None:
        """Watches a cache; one that is watched already, or cannot be, is left alone."""
        if cache is None or id(cache) in self._watched or not hasattr(type(cache), "reorder_cache"):
            return
        name, watched = id(cache), self._watched
        reference = weakref.ref(cache, lambda _: watched.pop(name, None))
        for method, listener in self._listeners.items():
            if hasattr(type(cache), method):
                setattr(cache, method, _Method(reference, method, listener))
        watched[name] = reference

    def clear(self) -> None:
        """Takes the watch off every cache."""
        for reference in list(self._watched.values()):
            cache = reference()
            for name in self._listeners if cache is not None else ():
                cache.__dict__.pop(name, None)
        self._watched.clear()


class _Method:
    """Stands in for a method of one cache, and tells when it was called. A copy of the cache gets its own method."""

    def __init__(self, reference: weakref.ref, name: str, listener: Callable[..., None]) -> None:
        self._reference, self._name, self._listener = reference, name, listener
        self.__name__ = name  # which some caches ask of their own methods

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cache: Any = self._reference()
        result = getattr(type(cache), self._name)(cache, *args, **kwargs)
        self._listener(cache, *args, *kwargs.values())
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self._reference())]
        return getattr(type(copied), self._name).__get__(copied)


def _selected(count: int, index: Any) -> Tensor:
    return torch.arange(count)[index.cpu() if isinstance(index, Tensor) else index]
