"""Units, and the numbers that each of them can give: what a file says beyond them was never found."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from types import MappingProxyType

ANY = (-inf, inf)
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"share": (0.0, 1.0), "perplexity": (1.0, inf)}
    | dict.fromkeys(("percent", "BLEU", "chrF2"), (0.0, 100.0))
    | dict.fromkeys(
        ("errors per word", "errors per character", "nats per token", "bits per byte"), (0.0, inf)
    )
    | {"correlation": (-1.0, 1.0), "cluster": (0.0, inf)}
    | dict.fromkeys(
        ("words", "tokens", "positions", "layers", "seconds", "rank", "distance", "ratio"), (0.0, inf)
    )
    | dict.fromkeys(
        ("nats", "points", "score", "size", "kind", "change of nats per token", "change of the metric"), ANY
    )
)
"""Unit -> the smallest and the largest number that has it."""


def range_of(unit: str) -> tuple[float, float]:
    """The smallest and the largest number in a unit; a unit that is not in `RANGES`, as plug-ins have, gives any.

    What follows a comma says more of the unit.

    Example:
        >>> range_of("share"), range_of("BLEU, 13a"), range_of("furlongs")
        ((0.0, 1.0), (0.0, 100.0), (-inf, inf))
    """
    return RANGES.get(unit.partition(",")[0], ANY)


def change_in(unit: str) -> tuple[float, float]:
    """The smallest and the largest difference of two numbers in a unit.

    Example:
        >>> change_in("share"), change_in("seconds")
        ((-1.0, 1.0), (-inf, inf))
    """
    low, high = range_of(unit)
    return low - high, high - low
