"""The self-check: before a model is used, does the engine see it, follow it, and leave its numbers alone?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from headwise.errors import InputError, UnsupportedModel
from headwise.placement import input_device
from headwise.probes.check.decoding_trial import try_decoding
from headwise.probes.check.finite import first_nan
from headwise.probes.check.probe_inputs import probe_inputs
from headwise.probes.check.reference import Comparison, Reference
from headwise.probes.check.releases import doubt_of_release, verified_range
from headwise.probes.check.trials import Trial, first_line, first_output, try_forward, try_padded_batch
from headwise.probes.engine.instrumentation import Hub, attached, hub_of
from headwise.probes.engine.reach import EAGER, remedy
from headwise.probes.engine.session import Session
from headwise.probes.selection import NOTHING
from headwise.probes.trace.buffer import Want

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.generation.generate_calls import GenerateCall

_CHECKS: WeakKeyDictionary[PreTrainedModel, dict[Any, Check]] = WeakKeyDictionary()
"""What was found about models that are alive. It is kept beside them: after a capture a model is as it was."""

_EVERY_USE = {
    "forward": "this model's logits",
    "padded batch": "this model's logits on a padded batch",
}
"""Trials that have to pass before a model is used at all, and what is wrong when they do not."""


@dataclass(frozen=True)
class Check:
    """What the self-check found."""

    trials: tuple[Trial, ...] = ()
    unreached: Mapping[str, str] = field(default_factory=dict)
    """Attention modules that ran out of sight, and why."""
    notes: tuple[str, ...] = ()
    """Why it was not run."""

    @property
    def generate(self) -> str | None:
        """Why generations cannot be followed; None when they can, or when nobody has generated yet."""
        return self.problem("decode step")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user has to know: the check was not run, or the release is not one that headwise is verified on."""
        release = doubt_of_release(passed=[trial.name for trial in self.trials if trial.passed])
        return self.notes if release is None else (*self.notes, release)

    def problem(self, name: str) -> str | None:
        """What is wrong with one use of the model; None when nothing is, or when it was not tried."""
        return next((trial.problem for trial in self.trials if trial.name == name and trial.problem), None)


def self_check(model: PreTrainedModel) -> Check:
    """Tries a model out on a few tokens, a forward and a padded batch, with and without the engine.

    Done once per model, implementation, dtype and device. The random state is kept. Where no input can be made up for
    a model, that is said in `warnings`, and what the first real forward does not reach is still reported. Decoding is
    tried when the model first generates (`require_generate`).

    Raises:
        UnsupportedModel: the engine changes what the model computes, or reaches no attention at all.
        InputError: the model's own output is NaN.
    """
    hub = hub_of(model)
    key = _key(hub)
    check = _CHECKS.get(model, {}).get(key)
    if check is None:
        if hub.sessions:  # whoever attached first has checked; a check now would be recorded by them
            return Check()
        check = _check(model)
        _CHECKS[model] = {**_CHECKS.get(model, {}), key: check}
    return check


def check_of(hub: Hub) -> Check:
    """What the self-check has found about a model so far; an empty one where it was not run."""
    return _CHECKS.get(hub.model, {}).get(_key(hub), Check())


def require_generate(hub: Hub, call: GenerateCall) -> None:
    """Tries decoding out before the first `generate` of a model that was checked, with the cache that it asks for.

    Raises:
        UnsupportedModel: a decode step does not join its prompt.
    """
    model, key = hub.model, _key(hub)
    check = _CHECKS.get(model, {}).get(key)
    concerned = hub.calls().aside is None and any(session.listens() for session in hub.sessions)
    if check is None or not check.trials or not concerned:
        return
    static = _wants_static(call)
    for name in ("decode step", "static cache") if static else ("decode step",):
        if not any(trial.name == name for trial in check.trials):
            with _undisturbed(model):
                trial = _decoding(hub, static=name == "static cache")
            check = replace(check, trials=(*check.trials, trial))
            _CHECKS[model] = {**_CHECKS.get(model, {}), key: check}
        problem = check.problem(name)
        if problem:
            raise UnsupportedModel(
                "headwise cannot follow a generation of this model.",
                evidence=f"{name}: {problem}",
                remedy=f"Capture or patch forwards, or use a verified release of transformers ({verified_range()}).",
            )


def trials_of(model: PreTrainedModel) -> Check:
    """Every trial of a model, made now; nothing may be attached to it.

    Raises:
        InputError: the model's own output is NaN.
    """
    check = _tried(model)
    if check.notes or any(trial.problem for trial in check.trials) or not check.trials:
        return check
    hub = hub_of(model)
    idle = Session(model, None, hub.language, want=Want(stats=NOTHING))
    with _undisturbed(model), attached(hub, idle):
        steps = tuple(_decoding(hub, static=static) for static in (False, True))
    return replace(check, trials=check.trials + steps)


def require_numbers(model: PreTrainedModel, inputs: Mapping[str, Any], plain: Tensor) -> None:
    """Refuses a model whose own output is NaN, and names the module where it begins.

    Raises:
        InputError: the output holds NaN.
    """
    if not bool(plain.isnan().any()):
        return
    where = first_nan(model, inputs)
    raise InputError(
        "The model's own output is NaN.",
        evidence=f"{type(model).__name__} on {', '.join(inputs)}" + (f", first in {where}" if where else ""),
        remedy="Check its weights and dtype; nothing measured on it would mean anything.",
    )


def _require_scores(hub: Hub, inputs: Mapping[str, Tensor], seen: Comparison) -> None:
    """Refuses a model whose own scores are NaN although its output is not: kernels without a mask may hide that.

    Raises:
        InputError: the model's own eager attention gives NaN.
    """
    apart = [site for site, difference in seen.differences.items() if math.isnan(difference)]
    if not apart:
        return
    reference = Reference(hub.model, None, hub.language)
    with attached(hub, reference):
        hub.model(**inputs)
    for site in apart:
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
        remedy=remedy(modules, hub_of(model).implementation, otherwise=otherwise),
    )


def _key(hub: Hub) -> Any:
    model = hub.model
    return hub.implementation, model.dtype, input_device(model), model.training


def _check(model: PreTrainedModel) -> Check:
    check = _tried(model)
    if not check.trials and not check.notes:
        raise unsupported(model, check.unreached)
    for trial in check.trials:
        if trial.problem:
            eager = "" if hub_of(model).implementation == "eager" else f"{EAGER}. "
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
    hub = hub_of(model)
    with _undisturbed(model):
        tried = _first_that_runs(model)
        if isinstance(tried, str):
            note = f"The self-check was not run: no input could be made up for this model ({tried})."
            return Check(notes=(note,))
        inputs, plain = tried
        require_numbers(model, inputs, plain)
        forward, seen = try_forward(hub, inputs, plain)
        _require_scores(hub, inputs, seen)
        unreached = hub.unreached()
        if forward.problem or not seen.runs:
            return Check((forward,) if forward.problem else (), unreached)
        return Check((forward, try_padded_batch(hub, inputs)), unreached)


def _decoding(hub: Hub, *, static: bool) -> Trial:
    with hub.aside(Session(hub.model, None, hub.language)):
        tried = _first_that_runs(hub.model)
    if isinstance(tried, str):
        return Trial("static cache" if static else "decode step", note=tried)
    return try_decoding(hub, tried[0], static=static)


def _wants_static(call: GenerateCall) -> bool:
    from transformers import StaticCache

    name = call.option("cache_implementation")
    return (isinstance(name, str) and "static" in name) or any(
        isinstance(getattr(value, "self_attention_cache", value), StaticCache)
        for value in call.arguments.values()
    )


@contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Without gradients and autocast; the random state is kept."""
    device = input_device(model)
    devices = [device] if device.type == "cuda" else []
    plainly = torch.autocast(device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), torch.no_grad(), plainly:
        yield


def _first_that_runs(model: PreTrainedModel) -> tuple[dict[str, Tensor], Tensor] | str:
    """Made-up inputs and what the model gives on them; the model's own complaint when none runs."""
    complaint = ""
    try:
        tries = probe_inputs(model)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # an unusual configuration
        return first_line(error)
    for inputs in tries:
        torch.manual_seed(0)
        try:
            return inputs, first_output(model(**inputs))
        except Exception as error:
            complaint = complaint or first_line(error)
    return complaint
