"""A fact about a real model: what is claimed, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import headwise as hw


@dataclass(frozen=True)
class Finding:
    """What was measured, as a sentence with its numbers, and whether it is what was expected."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Fact:
    """A claim about a model of `tests.real.folders`, and the measurement that shows it."""

    model: str
    measure: Callable[[hw.Subject], Finding]
    long: bool = False
    """True for a measurement of many minutes, which is made when it is asked for by name."""
