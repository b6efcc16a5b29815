"""Key-value caches, known by what they can do and not by the name that carries them, and refusals of their use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from headwise.errors import CaptureError, FixError


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


def require_past(inputs: Mapping[str, Any], past: int) -> None:
    """Refuses a forward that says itself that it begins at another position than behind its cache."""
    at = inputs.get("cache_position")
    if isinstance(at, Tensor) and at.dim() == 1 and len(at) and int(at[0]) != past:
        raise CaptureError(
            "The positions of a forward and its cache do not agree, so its rows cannot be followed.",
            evidence=f"cache_position begins at {int(at[0])}, and the cache holds {past} positions",
            remedy="Crop the cache to the positions before the call, or leave cache_position out.",
        )


def unseen_past(tower: str, keys: int, rows: int, past: int) -> CaptureError:
    """The error for self-attention that shows positions which came in no cache that is known."""
    return CaptureError(
        "A forward attends to positions that headwise did not see come in, so its rows cannot be followed.",
        evidence=f"{keys} keys in the self-attention of the {tower} tower, {past} cached positions known and {rows} "
        "new ones",
        remedy="Hand the past over as a cache of transformers (past_key_values=DynamicCache()), or run with "
        "use_cache=False.",
    )


def cached_length(cache: Any) -> int:
    """Positions that a key-value cache holds; 0 for None."""
    return 0 if cache is None else int(cache.get_seq_length())


def in_pieces(fix: str, evidence: str) -> FixError:
    """The error for a part of a prompt that a fix has to see as a whole."""
    return FixError(
        f"{fix} has to see a prompt as a whole, and this one comes in pieces.",
        evidence=evidence,
        remedy="Read the prompt in one forward: generate without prefill_chunk_size, and every turn of a chat from "
        "its beginning, with a new cache.",
    )
