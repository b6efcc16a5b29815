"""Checks of single parameters."""

from __future__ import annotations

from collections.abc import Sequence

from headwise.errors import FixError
from headwise.fixes._heads import finite


def between(value: float, name: str, low: float, high: float) -> float:
    """The value as a float; outside of low to high raises `FixError`."""
    number = finite(value, name)
    if not low <= number <= high:
        raise FixError(
            f"{name} must lie between {low:g} and {high:g}.",
            evidence=f"got {number:g}",
            remedy="Give a number in this range.",
        )
    return number


def one_of(value: str, name: str, choices: Sequence[str]) -> None:
    """Refuses a word that is none of the choices."""
    if value not in choices:
        raise FixError(f"{name} cannot be {value!r}.", remedy=f"One of {', '.join(choices)}.")
