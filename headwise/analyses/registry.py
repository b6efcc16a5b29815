"""Analyses by name: headwise's own, and those that installed packages add.

A package adds one through the entry-point group `headwise.analyses`; the object it points to takes a trace
and returns a `Result`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from headwise.analyses.result import Result
from headwise.errors import HeadwiseError, InputError

GROUP = "headwise.analyses"


def _own() -> dict[str, Callable[..., Result]]:
    from headwise import analyses

    return {
        "distance": analyses.distance,
        "entropy": analyses.entropy,
        "mass": analyses.mass,
        "sink_rate": analyses.sink_rate,
        "sinks": analyses.sinks,
    }


def names() -> tuple[str, ...]:
    """Every analysis that `get` finds, sorted.

    Raises:
        HeadwiseError: when two packages use one name.
    """
    return tuple(sorted({**_own(), **_added()}))


def get(name: str) -> Callable[..., Result]:
    """The analysis called `name`.

    Raises:
        InputError: when there is none.
        HeadwiseError: when two packages use one name, or the package that adds it cannot be imported.

    Example:
        >>> get("entropy").__name__
        'entropy'
    """
    own, added = _own(), _added()
    if name in own:
        return own[name]
    if name in added:
        point = added[name]
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise HeadwiseError(
                f"The analysis {name!r} could not be loaded.",
                evidence=f"{point.value}: {error}",
                remedy="Repair or remove the package that adds it.",
            ) from error
    close = get_close_matches(name, [*own, *added]) or sorted({**own, **added})
    raise InputError(f"There is no analysis {name!r}.", evidence=f"close: {', '.join(close)}")


def _added() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    own = _own()
    for point in entry_points(group=GROUP):
        if point.name in own or point.name in found:
            other = (
                f"headwise and {point.value}"
                if point.name in own
                else f"{found[point.name].value} and {point.value}"
            )
            raise HeadwiseError(
                f"Two analyses are called {point.name!r}.",
                evidence=other,
                remedy="Remove or rename one of them.",
            )
        found[point.name] = point
    return found
