"""Shape checking of annotated tensor functions, switched on for the tests only."""

from __future__ import annotations

import typing
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


def modules() -> list[str]:
    """The modules of headwise that name shapes. The others are left alone: every call that is watched costs time."""
    spec = find_spec("headwise")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    files = [path for path in root.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    return [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and result checked at every call, where its annotations name a shape.

    Annotations that are imported for type checkers only (`TYPE_CHECKING`) leave a function as it is.
    """
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        return function
    return beartype(function) if any(map(_names_a_shape, hints.values())) else function


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_names_a_shape, typing.get_args(hint)))
