"""Follows beam search and roll-backs, which act on a key-value cache between two forwards."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

_METHODS = ("reorder_cache", "crop")


class CacheWatch:
    """Tells listeners when a cache is reordered or cropped. Caches are held weakly, and given back untouched."""

    def __init__(self, reordered: Callable[[Any, Tensor], None], cropped: Callable[[Any], None]) -> None:
        self._reordered, self._cropped = reordered, cropped
        self._watched: dict[int, weakref.ref] = {}

    def add(self, cache: Any) -> None:
        """Watches a cache; one that is watched already, or cannot be, is left alone."""
        if cache is None or id(cache) in self._watched or not hasattr(type(cache), "reorder_cache"):
            return
        name, watched = id(cache), self._watched
        reference = weakref.ref(cache, lambda _: watched.pop(name, None))
        cache.reorder_cache = _Method(
            reference, "reorder_cache", lambda held, index: self._reordered(held, index)
        )
        if hasattr(type(cache), "crop"):
            cache.crop = _Method(reference, "crop", lambda held, *_: self._cropped(held))
        watched[name] = reference

    def clear(self) -> None:
        """Takes the watch off every cache."""
        for reference in list(self._watched.values()):
            cache = reference()
            for name in _METHODS if cache is not None else ():
                cache.__dict__.pop(name, None)
        self._watched.clear()


class _Method:
    """Stands in for a method of one cache, and tells when it was called. A copy of the cache gets its own method."""

    def __init__(self, reference: weakref.ref, name: str, told: Callable[..., None]) -> None:
        self._reference, self._name, self._told = reference, name, told
        self.__name__ = name  # which some caches ask of their own methods

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        held: Any = self._reference()
        result = getattr(type(held), self._name)(held, *args, **kwargs)
        self._told(held, *args, *kwargs.values())
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self._reference())]
        return getattr(type(copied), self._name).__get__(copied)
