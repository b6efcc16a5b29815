"""Shape checking of annotated tensor functions, switched on for the tests only."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


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
