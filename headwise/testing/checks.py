"""A law tried on one fix or analysis and one tiny model, and the two ways to run a list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


@dataclass(frozen=True)
class Check:
    """One law, of one fix or analysis, on one tiny model; calling it raises AssertionError where it is broken."""

    subject: str
    """Name of the fix or analysis."""
    law: str
    model: str
    """Name of the tiny model."""
    run: Callable[[], None]

    def __call__(self) -> None:
        """Try it."""
        self.run()

    def __str__(self) -> str:
        return f"{self.subject}-{self.law}-{self.model}"


def run_checks(checks: Sequence[Check]) -> None:
    """Run all of them, and name every one that fails.

    Raises:
        AssertionError: laws are broken, or raise something else; the first of them is the cause.
    """
    broken = []
    for check in checks:
        try:
            check()
        except Exception as error:
            broken.append((check, error))
    if broken:
        lines = [f"{check}: {_first_line(error)}" for check, error in broken]
        raise AssertionError("\n".join([f"{len(broken)} of {len(checks)} checks fail.", *lines])) from broken[
            0
        ][1]


def parametrize_with_checks(
    checks: Iterable[Check], *, marks: Callable[[Check], Iterable[Any]] = lambda check: ()
) -> Any:
    """A pytest decorator: one test per check, for a test function that calls its argument `check`.

    Args:
        checks: of `fix_checks` and `analysis_checks`.
        marks: gives the pytest marks of a check.
    """
    import pytest

    params = [pytest.param(check, id=str(check), marks=tuple(marks(check))) for check in checks]
    return pytest.mark.parametrize("check", params)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def require(condition: object, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds."""
    if not condition:
        raise AssertionError(message)
