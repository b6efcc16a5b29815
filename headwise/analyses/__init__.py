"""Analyses: functions from a trace to a `Result`, and the formulas behind them as functions on tensors."""

from headwise.analyses._distance import distance
from headwise.analyses._entropy import entropy
from headwise.analyses._mass import mass
from headwise.analyses._sinks import sink_rate, sinks
from headwise.analyses.registry import get, names
from headwise.analyses.result import Result
from headwise.functional.distance import mean_distance, relative_distance
from headwise.functional.entropy import normalised_entropy, row_entropy
from headwise.functional.received import mean_received

__all__ = [
    "Result",
    "distance",
    "entropy",
    "get",
    "mass",
    "mean_distance",
    "mean_received",
    "names",
    "normalised_entropy",
    "relative_distance",
    "row_entropy",
    "sink_rate",
    "sinks",
]
