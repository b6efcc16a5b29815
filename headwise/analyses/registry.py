"""Analyses by name: headwise's own, and those that packages add through the entry-point group `headwise.analyses`.

The object behind an entry point takes a trace and returns a `Result`.
"""

from headwise.plugins import Plugins

ANALYSES = Plugins(
    "analysis",
    "headwise.analyses",
    {
        "distance": "headwise.analyses._distance:distance",
        "entropy": "headwise.analyses._entropy:entropy",
        "mass": "headwise.analyses._mass:mass",
        "sink_rate": "headwise.analyses._sinks:sink_rate",
        "sinks": "headwise.analyses._sinks:sinks",
    },
)

get, names = ANALYSES.get, ANALYSES.names
