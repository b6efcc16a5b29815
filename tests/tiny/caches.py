"""How tests hand a key-value cache on, on every release: transformers 5.24 renamed its argument."""

from __future__ import annotations

import inspect
from typing import Any

from headwise.probes.generation.caches import cache_of

__all__ = ["cache_of", "with_cache"]


def with_cache(model: Any, cache: Any) -> dict[str, Any]:
    """The argument of a forward that carries a cache; no argument for None."""
    names = inspect.signature(model.forward).parameters
    return {} if cache is None else {"cache" if "cache" in names else "past_key_values": cache}
