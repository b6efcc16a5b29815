"""Errors in words for a decorator that is written wrongly."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from headwise.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def in_words(decorator: Callable[P, R]) -> Callable[P, R]:
    """A decorator that says how it is written where it is called otherwise."""

    @wraps(decorator)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            signature(decorator).bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                "The record of an analysis cannot be made so.",
                evidence="@analysis without parentheses" if args else str(error),
                remedy="Write @analysis(kind=..., keys=..., value=..., unit=..., description=..., summary=...) above a "
                "function.",
            ) from error
        return decorator(*args, **kwargs)

    return checked
