"""A fix with its parameters, as a line of text that differs wherever they do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

_LONGEST = 500
_PLAIN = (bool, int, float, str, tuple, list, dict, Tensor, np.ndarray)
"""What is told of an object that is no dataclass."""


def fix_text(fix: Any) -> str:
    """A fix with its parameters; tensors, and what is behind the first 500 letters, as a digest.

    Example:
        >>> from headwise.fixes import ZeroHeads
        >>> fix_text(ZeroHeads(heads=((0, 1),)))
        "ZeroHeads(heads=((0, 1),), tower=None, kind='self')"
    """
    text = _text(fix)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… {_digest(text.encode())}"


def _text(value: Any) -> str:
    if is_dataclass(value) and not isinstance(value, type):
        own = {item.name: getattr(value, item.name) for item in fields(value) if item.init}
        return f"{type(value).__name__}({_pairs(own)})"
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value
        return f"<{'×'.join(map(str, array.shape))} values {_digest(np.ascontiguousarray(array).tobytes())}>"
    if isinstance(value, Mapping):
        return f"{{{_pairs({repr(key): item for key, item in value.items()})}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    if " at 0x" in repr(value):  # where it lies says nothing of what it is
        own = {name: item for name, item in vars(value).items() if isinstance(item, _PLAIN)}
        return f"{type(value).__name__}({_pairs(own)})"
    return repr(value)


def _pairs(named: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(item)}" for name, item in named.items())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
