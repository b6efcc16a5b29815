"""Analyses: from a trace, or two, to a `Result`. `hw.analyses.NAME` is any analysis by name, those of plug-ins too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.analyses._heads import HEAD
from headwise.analyses._pictures.complexity import edge_share, hue_entropy
from headwise.analyses.merging import merge
from headwise.analyses.profiles import profile_clusters
from headwise.analyses.record import Analysis, analysis
from headwise.analyses.registry import get, names
from headwise.functional.distance import mean_distance, relative_distance
from headwise.functional.entropy import normalised_entropy, row_entropy
from headwise.functional.received import mean_received
from headwise.plugins import unknown_attribute
from headwise.results.result import Result, load_result

if TYPE_CHECKING:
    from headwise.analyses._circuits.circuit import circuit
    from headwise.analyses._circuits.patching import activation_patching, residual_patching
    from headwise.analyses._divergence.captures import pattern_divergence, trace_divergence
    from headwise.analyses._divergence.inputs import head_divergence, reply_divergence, token_divergence
    from headwise.analyses._divergence.interaction import interaction
    from headwise.analyses._entropy import entropy
    from headwise.analyses._kinds.clusters import pattern_clusters
    from headwise.analyses._kinds.importance import head_importance, importance_agreement, pruning_curve
    from headwise.analyses._kinds.kinds import head_kinds
    from headwise.analyses._kinds.types import head_types, pattern_types
    from headwise.analyses._mass import mass
    from headwise.analyses._pictures.complexity_correlation import complexity_correlation
    from headwise.analyses._pictures.neighbourhood import neighbourhood
    from headwise.analyses._rows.look_back import look_back
    from headwise.analyses._rows.rhythm import rhythm
    from headwise.analyses._rows.top_mass import top_mass
    from headwise.analyses._saliency.faithfulness import faithfulness
    from headwise.analyses._saliency.maps import saliency
    from headwise.analyses._saliency.overlap import saliency_overlap
    from headwise.analyses._saliency.spectrogram import spectrogram_saliency
    from headwise.analyses._sinks import sink_rate, sinks
    from headwise.analyses._sinks_of.classes import class_sinks
    from headwise.analyses._sinks_of.decoding import decoding_sinks
    from headwise.analyses._sinks_of.massive import massive_activations
    from headwise.analyses._sinks_of.secondary import secondary_sinks
    from headwise.analyses._sinks_of.strength import sink_strength
    from headwise.analyses._sinks_of.visual import visual_sinks
    from headwise.analyses._span.distance import distance
    from headwise.analyses._span.effective import effective_span
    from headwise.analyses._span.quantile import quantile_distance

__all__ = [
    "HEAD",
    "Analysis",
    "Result",
    "activation_patching",
    "analysis",
    "circuit",
    "class_sinks",
    "complexity_correlation",
    "decoding_sinks",
    "distance",
    "edge_share",
    "effective_span",
    "entropy",
    "faithfulness",
    "get",
    "head_divergence",
    "head_importance",
    "head_kinds",
    "head_types",
    "hue_entropy",
    "importance_agreement",
    "interaction",
    "load_result",
    "look_back",
    "mass",
    "massive_activations",
    "mean_distance",
    "mean_received",
    "merge",
    "names",
    "neighbourhood",
    "normalised_entropy",
    "pattern_clusters",
    "pattern_divergence",
    "pattern_types",
    "profile_clusters",
    "pruning_curve",
    "quantile_distance",
    "relative_distance",
    "reply_divergence",
    "residual_patching",
    "rhythm",
    "row_entropy",
    "saliency",
    "saliency_overlap",
    "secondary_sinks",
    "sink_rate",
    "sink_strength",
    "sinks",
    "spectrogram_saliency",
    "token_divergence",
    "top_mass",
    "trace_divergence",
    "visual_sinks",
]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in names():
        raise unknown_attribute(__name__, name, __dir__())
    return get(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *names()})
