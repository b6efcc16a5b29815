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

        def reorder_cache(beam_idx: Tensor) -> None:
            held: Any = reference()
            type(held).reorder_cache(held, beam_idx)
            self._reordered(held, beam_idx)

        def crop(*args: Any, **kwargs: Any) -> Any:
            held: Any = reference()
            result = type(held).crop(held, *args, **kwargs)
            self._cropped(held)
            return result

        cache.reorder_cache = reorder_cache
        if hasattr(type(cache), "crop"):
            cache.crop = crop
        watched[name] = reference

    def clear(self) -> None:
        """Takes the watch off every cache."""
        for reference in list(self._watched.values()):
            cache = reference()
            for name in _METHODS if cache is not None else ():
                cache.__dict__.pop(name, None)
        self._watched.clear()
