"""Key-value caches, known by what they can do and not by the name of the argument or field that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def is_cache(value: Any) -> bool:
    """True for a key-value cache of any kind: dynamic, static, sliding, quantised, of an encoder-decoder."""
    return not isinstance(value, Tensor) and callable(getattr(type(value), "get_seq_length", None))


def cache_among(values: Iterable[Any]) -> Any:
    """The first key-value cache among values; None when there is none."""
    return next((value for value in values if is_cache(value)), None)


def cache_of(output: Any) -> Any:
    """The key-value cache that a forward hands out, in whatever field or slot; None when there is none."""
    if isinstance(output, Mapping):
        return cache_among(output.values())
    return cache_among(output) if isinstance(output, tuple | list) else None


def cached_length(cache: Any) -> int:
    """Positions that a key-value cache holds; 0 for None."""
    return 0 if cache is None else int(cache.get_seq_length())
