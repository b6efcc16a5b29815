"""Numbers of a chart that cannot be: beyond what their units give."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.figures.labels import counted
from headwise.units import change_in, range_of

if TYPE_CHECKING:
    import pandas as pd

_OF_UNITS = ("value", "low", "high", "difference", "difference_low", "difference_high")
_SHARES = ("p", "p_holm")
"""Columns of differences that are in the unit of their row, and those that are shares of 1."""
_ENDS = (("low", "high"), ("difference_low", "difference_high"))
_COUNT = "n"


def check_numbers(frame: pd.DataFrame, *, name: str, kind: str, value: str, unit: str) -> None:
    """Refuse numbers that their unit cannot have, but for what half precision makes of 0 and 1.

    Args:
        frame: the table.
        name: of the chart, for messages.
        kind: of the chart: rows of a difference have a unit each.
        value: the column that carries the finding, of numbers.
        unit: of `value`.

    Raises:
        InputError: a number is beyond the range of its unit; of differences also one of no whole number of examples, or
            an interval whose ends are exchanged.
    """
    for column, its, (low, high), numbers in _ranged(frame, kind, value, unit):
        values = numbers.to_numpy(dtype=float, na_value=nan)
        room = 0.01 * (high if isfinite(high) else 1.0)
        wrong = values[(values < low - room) | (values > high + room)]
        if len(wrong):
            raise InputError(
                f"{name}: {wrong[0]:g} is no {column!r} in {its}.",
                evidence=f"{counted(len(wrong), 'value')} beyond {low:g} to {high:g}",
                remedy="Give the unit of these numbers, such as unit='change of share'.",
            )
    numbers = frame.select_dtypes("number") if kind == "difference" else frame[[]]
    wrong_way = [
        ends for ends in _ENDS if {*ends} <= {*numbers} and (numbers[ends[0]] > numbers[ends[1]]).any()
    ]
    facts = [f"{low!r} is above {high!r}" for low, high in wrong_way]
    if _COUNT in numbers and (numbers[_COUNT] % 1 != 0).any():
        facts.append(f"{_COUNT!r} is no whole number")
    if facts:
        raise InputError(f"{name}: in a row {facts[0]}.", remedy="Check the table.")


def _ranged(
    frame: pd.DataFrame, kind: str, value: str, unit: str
) -> Iterator[tuple[str, str, tuple[float, float], pd.Series]]:
    """Columns whose numbers have a range: each with its unit, that range, and the numbers."""
    if kind != "difference":
        low, high = range_of(unit)
        entropy = unit in ("nats", "bits") and value.endswith("entropy")
        yield value, unit, (0.0 if entropy else low, high), frame[value]
        return
    numbers = frame.select_dtypes("number")
    for its, rows in frame.groupby("unit", sort=False) if "unit" in frame else ():
        for column in filter(numbers.__contains__, _OF_UNITS):
            range_ = change_in(str(its)) if column.startswith("difference") else range_of(str(its))
            yield column, str(its), range_, rows[column]
    for column in filter(numbers.__contains__, _SHARES):
        yield column, "share", range_of("share"), numbers[column]
    if _COUNT in numbers:
        yield _COUNT, "examples", (0.0, inf), numbers[_COUNT]
