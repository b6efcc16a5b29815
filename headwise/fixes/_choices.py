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


def yes_or_no(value: bool, name: str) -> None:
    """Refuses anything but True and False."""
    if not isinstance(value, bool):
        raise FixError(
            f"{name} must be true or false.", evidence=f"got {value!r}", remedy="Write true or false."
        )


def whole_number(value: int, name: str, low: int, high: int) -> None:
    """Refuses anything but a whole number from low to high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FixError(
            f"{name} must be a whole number from {low} to {high}.",
            evidence=f"got {value!r}",
            remedy="Give a number in this range.",
        )
