"""Numbers of evaluations as they come out of files: none that could not have been found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from math import inf, isnan
from typing import TYPE_CHECKING, Any, TypeVar

from headwise.errors import InputError
from headwise.evaluation.results.methods import NEAR, check_interval, check_p
from headwise.evaluation.statistics.estimate import Estimate
from headwise.evaluation.statistics.paired import Difference
from headwise.units import change_in, range_of

if TYPE_CHECKING:
    import pandas as pd

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "bool | None": (bool, type(None)),
    "int | None": (int, type(None)),
}
"""Annotation of a field -> what may stand there."""
_WHOLE = 2**63
"""No count is larger."""
Number = TypeVar("Number", Estimate, Difference)


def check_fields(item: Any) -> None:
    """Refuse a dataclass whose plain fields hold values of other kinds, as what was read from a file may.

    Raises:
        ValueError: the first such field, with what it holds.

    Example:
        >>> from headwise.evaluation.results.arm import Cost
        >>> check_fields(Cost(1.0, 1.0, "many", 1.0, 1.0))
        Traceback (most recent call last):
        ...
        ValueError: tokens is 'many'
    """
    for field in fields(item):
        kinds = _KINDS.get(str(field.type), (object,))
        value = getattr(item, field.name)
        known = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds or object in kinds)
        if not known or (isinstance(value, int) and abs(value) > _WHOLE):
            raise ValueError(f"{field.name} is {repr(value)[:60]}")


def check_number(item: Estimate | Difference, *, examples: int) -> None:
    """Refuse an estimate or a difference that no examples could have given.

    Raises:
        ValueError: a field holds another kind of value, a number beyond what its unit or the count of examples allow,
            an interval or a p that its method never gives.

    Example:
        >>> check_number(Estimate("accuracy", 7.0, 0.5, 0.9, 8, "share", True, "by hand"), examples=8)
        Traceback (most recent call last):
        ...
        ValueError: accuracy: value is 7.0 share
    """
    check_fields(item)
    if not 0 <= item.n <= examples:
        raise ValueError(f"{item.metric}: n is {item.n} of {examples} examples")
    low, high = change_in(item.unit) if isinstance(item, Difference) else range_of(item.unit)
    parts = {(name, item.unit): (getattr(item, name), low, high) for name in ("value", "low", "high")}
    if isinstance(item, Difference):
        parts |= {(name, ""): (getattr(item, name), 0.0, 1.0) for name in ("p", "p_holm")}
    for (name, unit), (value, least, most) in parts.items():
        if not (isnan(value) or least - NEAR <= value <= most + NEAR):
            raise ValueError(f"{item.metric}: {name} is {value} {unit}".rstrip())
    check_interval(item)
    if isinstance(item, Difference):
        if not 0 <= item.smallest_effect < inf:
            raise ValueError(f"{item.metric}: smallest_effect is {item.smallest_effect}")
        if isnan(item.p) != isnan(item.p_holm) or item.p_holm < item.p - NEAR:
            raise ValueError(f"{item.metric}: p is {item.p}, and {item.p_holm} after adjusting")
        check_p(item)


def check_numbers(items: Sequence[Estimate | Difference], *, examples: int) -> None:
    """Refuse any of these numbers as `check_number` does."""
    for item in items:
        check_number(item, examples=examples)


@contextmanager
def unsaved() -> Iterator[None]:
    """A block that checks numbers before they are saved: what would not be read again is not written.

    Raises:
        InputError: a ValueError of the block.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(
            "This number is impossible in its unit, or does not go with the others, so that no file may hold it.",
            evidence=str(error),
            remedy='Give the metric the unit of its values, such as mean("score", unit="points").',
        ) from error


def check_ids(frame: pd.DataFrame, keys: Sequence[str]) -> None:
    """Refuse a per-example table without names, or with one twice, or with fewer than no tokens.

    Raises:
        ValueError: it is.
    """
    if not all(isinstance(name, str) for name in frame["id"]) or frame.duplicated(list(keys)).any():
        raise ValueError(f"{' and '.join(keys)} do not name its rows")
    if "tokens" in frame and (frame["tokens"] < 0).any():
        raise ValueError(f"an example has {frame['tokens'].min()} tokens")


def by_metric(kind: type[Number], items: Sequence[Mapping[str, Any]]) -> dict[str, Number]:
    """Estimates or differences that were read from a file, by their metrics.

    Raises:
        ValueError: a metric stands twice.
    """
    found = {item["metric"]: kind.from_dict(item) for item in items}
    if len(found) < len(items):
        raise ValueError("a metric stands twice")
    return found
