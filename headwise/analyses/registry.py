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
        "activation_patching": "headwise.analyses._circuits.patching:activation_patching",
        "circuit": "headwise.analyses._circuits.circuit:circuit",
        "class_sinks": "headwise.analyses._sinks_of.classes:class_sinks",
        "complexity_correlation": "headwise.analyses._pictures.complexity_correlation:complexity_correlation",
        "decoding_sinks": "headwise.analyses._sinks_of.decoding:decoding_sinks",
        "distance": "headwise.analyses._span.distance:distance",
        "effective_span": "headwise.analyses._span.effective:effective_span",
        "entropy": "headwise.analyses._entropy:entropy",
        "faithfulness": "headwise.analyses._saliency.faithfulness:faithfulness",
        "head_divergence": "headwise.analyses._divergence.inputs:head_divergence",
        "head_importance": "headwise.analyses._kinds.importance:head_importance",
        "head_kinds": "headwise.analyses._kinds.kinds:head_kinds",
        "head_types": "headwise.analyses._kinds.types:head_types",
        "importance_agreement": "headwise.analyses._kinds.importance:importance_agreement",
        "interaction": "headwise.analyses._divergence.interaction:interaction",
        "look_back": "headwise.analyses._rows.look_back:look_back",
        "mass": "headwise.analyses._mass:mass",
        "massive_activations": "headwise.analyses._sinks_of.massive:massive_activations",
        "neighbourhood": "headwise.analyses._pictures.neighbourhood:neighbourhood",
        "pattern_clusters": "headwise.analyses._kinds.clusters:pattern_clusters",
        "pattern_divergence": "headwise.analyses._divergence.captures:pattern_divergence",
        "pattern_types": "headwise.analyses._kinds.types:pattern_types",
        "pruning_curve": "headwise.analyses._kinds.importance:pruning_curve",
        "quantile_distance": "headwise.analyses._span.quantile:quantile_distance",
        "reply_divergence": "headwise.analyses._divergence.inputs:reply_divergence",
        "residual_patching": "headwise.analyses._circuits.patching:residual_patching",
        "rhythm": "headwise.analyses._rows.rhythm:rhythm",
        "saliency": "headwise.analyses._saliency.maps:saliency",
        "saliency_overlap": "headwise.analyses._saliency.overlap:saliency_overlap",
        "secondary_sinks": "headwise.analyses._sinks_of.secondary:secondary_sinks",
        "sink_rate": "headwise.analyses._sinks:sink_rate",
        "sink_strength": "headwise.analyses._sinks_of.strength:sink_strength",
        "sinks": "headwise.analyses._sinks:sinks",
        "spectrogram_saliency": "headwise.analyses._saliency.spectrogram:spectrogram_saliency",
        "token_divergence": "headwise.analyses._divergence.inputs:token_divergence",
        "top_mass": "headwise.analyses._rows.top_mass:top_mass",
        "trace_divergence": "headwise.analyses._divergence.captures:trace_divergence",
        "visual_sinks": "headwise.analyses._sinks_of.visual:visual_sinks",
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
