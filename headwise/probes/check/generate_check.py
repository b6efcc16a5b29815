"""Check of decoding, made before the first `generate` of a model that was checked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headwise.errors import UnsupportedModel
from headwise.probes.check.decoding_trial import NestedForward, try_decoding
from headwise.probes.check.releases import verified_range
from headwise.probes.check.results import keep_check, known_check
from headwise.probes.check.trial import undisturbed
from headwise.probes.generation.generate_call import GenerateCall

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def require_generate(
    model: PreTrainedModel,
    implementation: str | None,
    language: str,
    nested: NestedForward,
    call: GenerateCall,
) -> None:
    """Tries decoding out before the first `generate` of a model that was checked, with the cache that it asks for.

    Raises:
        UnsupportedModel: a decode step does not join its prompt.
    """
    check = known_check(model, implementation)
    if check is None or not check.trials:
        return
    static = _wants_static(call)
    for name in ("decode step", "static cache") if static else ("decode step",):
        if not any(trial.name == name for trial in check.trials):
            with undisturbed(model):
                trial = try_decoding(model, language, nested, static=name == "static cache")
            check = replace(check, trials=(*check.trials, trial))
            keep_check(model, implementation, check)
        problem = check.problem(name)
        if problem:
            raise UnsupportedModel(
                "headwise cannot follow a generation of this model.",
                evidence=f"{name}: {problem}",
                remedy=f"Capture or patch forwards, or use a verified release of transformers ({verified_range()}).",
            )


def _wants_static(call: GenerateCall) -> bool:
    from transformers import StaticCache

    name = call.option("cache_implementation")
    return (isinstance(name, str) and "static" in name) or any(
        isinstance(getattr(value, "self_attention_cache", value), StaticCache)
        for value in call.arguments.values()
    )
