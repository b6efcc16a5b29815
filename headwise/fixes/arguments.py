"""Checks of the arguments of fixes, and the heads of one layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import index
from reprlib import repr as _shown
from typing import Any

from headwise.errors import FixError
from headwise.probes.attach.sites import TOWERS
from headwise.text import head_name

Heads = Sequence[tuple[int, int]]
"""(layer, head) pairs; a fix keeps them as a tuple."""


def as_heads(heads: Iterable[Iterable[int]]) -> tuple[tuple[int, int], ...]:
    """(layer, head) pairs as a tuple; anything else raises `FixError`."""
    try:
        if isinstance(heads, str | Mapping):
            raise TypeError("no list")
        pairs = tuple((as_whole(layer), as_whole(head)) for layer, head in heads)
    except (TypeError, ValueError) as error:
        raise FixError(
            "heads must be (layer, head) pairs.",
            evidence=f"got {_shown(heads)}",
            remedy="For example heads=((3, 1), (4, 0)).",
        ) from error
    negative = [pair for pair in pairs if min(pair) < 0]
    if negative:
        raise FixError(
            "Layers and heads count from 0.", evidence=f"got {negative[0]}", remedy="Give numbers that exist."
        )
    return pairs


def as_numbers(numbers: Iterable[int], name: str) -> tuple[int, ...]:
    """Numbers that count from 0 as a tuple; anything else raises `FixError`."""
    if isinstance(numbers, str | Mapping) or not isinstance(numbers, Iterable):
        raise FixError(
            f"{name} must be a list of numbers.",
            evidence=f"got {_shown(numbers)}",
            remedy="For example [0, 3].",
        )
    try:
        found = tuple(map(as_whole, numbers))
    except TypeError:
        found = (-1,)
    if min(found, default=0) < 0:
        raise FixError(
            f"{name} must be whole numbers from 0.",
            evidence=f"got {_shown(numbers)}",
            remedy="Give numbers that exist.",
        )
    return found


def as_whole(value: Any) -> int:
    """A whole number of any library as an int; no truth, no text and no fraction is one.

    Raises:
        TypeError: it is none.

    Example:
        >>> as_whole(3)
        3
    """
    if isinstance(value, bool):
        raise TypeError(f"{value} is no number")
    return index(value)


def of_layer(heads: Heads, layer: int, count: int) -> list[int]:
    """The heads of one layer; a head the layer does not have raises `FixError`."""
    chosen = [head for at, head in heads if at == layer]
    missing = [head for head in chosen if head >= count]
    if missing:
        raise FixError(
            f"There is no head {head_name(layer, missing[0])}.",
            evidence=f"the layer has {count} heads, 0 to {count - 1}",
        )
    return chosen


def finite(value: float, name: str) -> float:
    """The value as a float; NaN and infinity raise `FixError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise FixError(
            f"{name} must be a number.", evidence=f"got {_shown(value)}", remedy="Write one, such as 0.5."
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FixError(
            f"{name} must be finite.", evidence=f"got {_shown(value)}", remedy="Write a number, such as 0.5."
        )
    return number


def as_tower(tower: str | None, kind: str) -> None:
    """Refuses a tower or kind that does not exist."""
    if tower is not None and tower not in TOWERS:
        raise FixError(f"There is no tower {tower!r}.", remedy=f"One of {', '.join(TOWERS)}.")
    if kind not in ("self", "cross"):
        raise FixError(f"There is no kind {kind!r}.", remedy="Either 'self' or 'cross'.")


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


def as_text(value: str, name: str) -> None:
    """Refuses anything but text."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise FixError(f"{name} must be text.", evidence=f"got {_shown(value)}", remedy="Give a word.")


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
