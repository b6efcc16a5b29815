"""Analyses by name: headwise's own, and those that packages add through the entry-point group `headwise.analyses`."""

from __future__ import annotations

from typing import Any

from headwise.analyses.record import Analysis
from headwise.errors import InputError
from headwise.plugins import Plugins

ANALYSES = Plugins(
    "analysis",
    "headwise.analyses",
    {
        "distance": "headwise.analyses._distance:distance",
        "entropy": "headwise.analyses._entropy:entropy",
        "head_types": "headwise.analyses._kinds.types:head_types",
        "look_back": "headwise.analyses._rows.look_back:look_back",
        "mass": "headwise.analyses._mass:mass",
        "pattern_types": "headwise.analyses._kinds.types:pattern_types",
        "rhythm": "headwise.analyses._rows.rhythm:rhythm",
        "sink_rate": "headwise.analyses._sinks:sink_rate",
        "sinks": "headwise.analyses._sinks:sinks",
        "top_mass": "headwise.analyses._rows.top_mass:top_mass",
    },
)

names = ANALYSES.names


def get(name: str) -> Analysis[Any]:
    """The analysis called `name`.

    Raises:
        InputError: there is none, or what a package has registered under this name is no `Analysis`.
    """
    found = ANALYSES.get(name)
    if not isinstance(found, Analysis):
        raise InputError(
            f"What is registered as the analysis {name!r} has no record of what it needs and finds.",
            evidence=type(found).__name__,
            remedy="Decorate its function with headwise.analyses.analysis(kind=..., keys=..., ...).",
        )
    return found
