"""The self-check: before a model is used, does the engine see it, follow it, and leave its numbers alone?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import InputError, UnsupportedModel
from headwise.probes.check.decoding_trial import try_decoding
from headwise.probes.check.forward_trials import try_forward, try_padded_batch
from headwise.probes.check.probe_inputs import first_that_runs
from headwise.probes.check.reference import Comparison, Reference
from headwise.probes.check.results import Check, keep_check, known_check
from headwise.probes.check.trial import undisturbed
from headwise.probes.engine.instrumentation import Instrumentation, attached, instrument
from headwise.probes.engine.reach import EAGER, remedy
from headwise.probes.engine.session import Session
from headwise.probes.selection import NOTHING
from headwise.probes.trace.options import CaptureOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_EVERY_USE = {"forward": "this model's logits", "padded batch": "this model's logits on a padded batch"}
"""Trials that have to pass before a model is used at all, and what is wrong when they do not."""


def self_check(model: PreTrainedModel) -> Check:
    """Tries a model out on a few tokens, a forward and a padded batch, with and without the engine.

    Done once per model, implementation, dtype and device. The random state is kept. Where no input can be made up for
    a model, that is said in `warnings`, and what the first real forward does not reach is still reported. Decoding is
    tried when the model first generates (`require_generate`).

    Raises:
        UnsupportedModel: the engine changes what the model computes, or reaches no attention at all.
        InputError: the model's own output is NaN.
    """
    instrumented = instrument(model)
    check = known_check(model, instrumented.implementation)
    if check is None:
        if instrumented.sessions:  # whoever attached first has checked; a check now would be recorded by them
            return Check()
        check = _check(model)
        keep_check(model, instrumented.implementation, check)
    return check


def trials_of(model: PreTrainedModel) -> Check:
    """Every trial of a model, made now; nothing may be attached to it.

    Raises:
        InputError: the model's own output is NaN.
    """
    check = _tried(model)
    if check.notes or any(trial.problem for trial in check.trials) or not check.trials:
        return check
    instrumented = instrument(model)
    idle = Session(model, None, instrumented.language, options=CaptureOptions(stats=NOTHING))
    with undisturbed(model), attached(instrumented, idle):
        steps = tuple(
            try_decoding(model, instrumented.language, instrumented.nested_forward, static=static)
            for static in (False, True)
        )
    return replace(check, trials=check.trials + steps)


def require_numbers(model: PreTrainedModel, inputs: Mapping[str, Any], plain: Tensor) -> None:
    """Refuses a model whose own output is NaN, and names the module where it begins."""
    if not bool(plain.isnan().any()):
        return
    where = first_nan(model, inputs)
    raise InputError(
        "The model's own output is NaN.",
        evidence=f"{type(model).__name__} on {', '.join(inputs)}" + (f", first in {where}" if where else ""),
        remedy="Check its weights and dtype; nothing measured on it would mean anything.",
    )


def _require_scores(
    instrumented: Instrumentation, inputs: Mapping[str, Tensor], comparison: Comparison
) -> None:
    """Refuses a model whose own scores are NaN although its output is not: kernels without a mask may hide that."""
    nan_sites = [site for site, difference in comparison.differences.items() if math.isnan(difference)]
    if not nan_sites:
        return
    reference = Reference(instrumented.model, None, instrumented.language)
    with attached(instrumented, reference):
        instrumented.model(**inputs)
    for site in nan_sites:
        if any(
            pattern is not None and bool(pattern.isnan().any())
            for pattern in reference.patterns.get(site, [])
        ):
            raise InputError(
                "The model's own attention is NaN.",
                evidence=f"{site} ({site.module}) in eager attention, on {', '.join(inputs)}",
                remedy="Check its weights and dtype (float16 may overflow where bfloat16 does not); its kernel may "
                "hide the NaN, and nothing measured on it would mean anything.",
            )


def unsupported(model: PreTrainedModel, unreached: Mapping[str, str]) -> UnsupportedModel:
    """The refusal of a model whose attention cannot be seen, with the reason."""
    reasons = sorted(set(unreached.values()))
    if reasons:
        otherwise = "It stays out of reach, whatever implementation the model is loaded with."
    else:
        otherwise = "Run it, with check=False, on inputs that its attention modules work on."
    modules = [model.get_submodule(name) for name in unreached]
    return UnsupportedModel(
        "headwise cannot see this model's attention.",
        evidence=f"{type(model).__name__}: {'; '.join(reasons) or 'no attention module ran'}",
        remedy=remedy(modules, instrument(model).implementation, otherwise=otherwise),
    )


def _check(model: PreTrainedModel) -> Check:
    check = _tried(model)
    if not check.trials and not check.notes:
        raise unsupported(model, check.unreached)
    for trial in check.trials:
        if trial.problem:
            eager = "" if instrument(model).implementation == "eager" else f"{EAGER}. "
            raise UnsupportedModel(
                f"The engine does not reproduce {_EVERY_USE[trial.name]}.",
                evidence=trial.problem,
                remedy=f"{eager}hw.doctor(model) names the layer.",
            )
    return check


def _tried(model: PreTrainedModel) -> Check:
    """The trials of forwards; none where the model does not run, or where nothing of it was seen."""
    if model.training:
        return Check(notes=("The model is in training mode; the self-check was not run.",))
    instrumented = instrument(model)
    with undisturbed(model):
        tried = first_that_runs(model)
        if isinstance(tried, str):
            note = f"The self-check was not run: no input could be made up for this model ({tried})."
            return Check(notes=(note,))
        inputs, plain = tried
        require_numbers(model, inputs, plain)
        forward, comparison = try_forward(instrumented, inputs, plain)
        _require_scores(instrumented, inputs, comparison)
        unreached = dict(instrumented.installed.unreached)
        if forward.problem or not comparison.runs:
            return Check((forward,) if forward.problem else (), unreached)
        return Check((forward, try_padded_batch(instrumented, inputs)), unreached)


def first_nan(model: PreTrainedModel, inputs: Mapping[str, Any]) -> str | None:
    """Qualified name of the first module that makes NaN from numbers, in the order of a forward; None when none does.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> with torch.no_grad():
        ...     _ = model.transformer.h[0].mlp.c_fc.bias.fill_(torch.nan)
        >>> first_nan(model, {"input_ids": torch.tensor([[3, 1, 2]])})
        'transformer.h.0.mlp.c_fc'
    """
    names = {module: name for name, module in model.named_modules()}
    ended: list[str] = []

    def note_nan(module: nn.Module, _: Any, output: Any) -> None:
        if not ended and any(bool(tensor.isnan().any()) for tensor in _tensors(output)):
            ended.append(names[module])

    hooks = [module.register_forward_hook(note_nan) for module in names]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return ended[0] if ended else None


def _tensors(output: Any) -> list[Tensor]:
    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else [output]
    )
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
