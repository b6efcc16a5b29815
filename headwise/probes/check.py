"""The self-check: before a model is first used, does the engine see it and leave its numbers alone?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError, UnsupportedModel
from headwise.probes.hub import attached, hub_of
from headwise.probes.probe_inputs import probe_inputs
from headwise.probes.recording import Want
from headwise.probes.session import Session

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKED = "_headwise_checked"
"""Attribute of a model that holds the result of its check, by attention implementation and dtype."""

_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Check:
    """What the self-check found."""

    unreached: dict[str, str] = field(default_factory=dict)
    """Attention modules that ran out of sight, and why."""
    warnings: tuple[str, ...] = ()


def self_check(model: PreTrainedModel) -> Check:
    """Runs the model on a few tokens with and without the engine; once per model, implementation and dtype.

    The random state is kept. Where no input can be made up for a model, that is said in `warnings`, and what the
    first real forward does not reach is still reported.

    Raises:
        UnsupportedModel: the engine changes the logits, or reaches no attention at all.
        InputError: the model's own output is NaN.
    """
    key = (getattr(model.config, "_attn_implementation", None), model.dtype, model.training)
    known: dict[Any, Check] = model.__dict__.get(CHECKED, {})
    if hub_of(model).sessions:  # whoever attached first has checked; a check now would be recorded by them
        return known.get(key, Check())
    if key not in known:
        known = {**known, key: _check(model)}
        model.__dict__[CHECKED] = known
    return known[key]


def _check(model: PreTrainedModel) -> Check:
    hub = hub_of(model)
    if model.training:
        return Check(warnings=("The model is in training mode; the self-check was not run.",))
    devices = [model.device] if model.device.type == "cuda" else []
    plainly = torch.autocast(model.device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), torch.no_grad(), plainly:
        tried = _first_that_runs(model)
        if isinstance(tried, str):
            return Check(
                warnings=(f"The self-check was not run: no input could be made up for this model ({tried}).",)
            )
        inputs, plain = tried
        if bool(plain.isnan().any()):
            raise InputError(
                "The model's own output is NaN.",
                evidence=f"{type(model).__name__} on {', '.join(inputs)}",
                remedy="Check its weights and dtype; nothing measured on it would mean anything.",
            )
        session = Session(model, None, hub.language, want=Want())
        torch.manual_seed(0)
        with attached(hub, session):
            seen = first_output(model(**inputs))
            unreached = hub.unreached()
        recorded = any(run.buffers for flow in session.flows for run in flow.runs)
    if not recorded:
        raise unsupported(model, unreached)
    scale = max(1.0, float(plain.abs().max()))
    difference = float((plain.float() - seen.float()).abs().max()) / scale
    if not difference <= _TOLERANCE.get(model.dtype, 1e-3):
        raise UnsupportedModel(
            "The engine does not reproduce this model's logits.",
            evidence=f"largest difference {difference:.2g} of the largest logit on a few tokens",
            remedy='Load the model with attn_implementation="eager"; hw.doctor(model) names the layer.',
        )
    return Check(unreached)


def _first_that_runs(model: PreTrainedModel) -> tuple[dict[str, Tensor], Tensor] | str:
    """Made-up inputs and what the model gives on them; the model's own complaint when none runs."""
    complaint = ""
    try:
        tries = probe_inputs(model)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:  # an unusual configuration
        return str(error)[:120] or type(error).__name__
    for inputs in tries:
        torch.manual_seed(0)
        try:
            return inputs, first_output(model(**inputs))
        except Exception as error:
            complaint = complaint or (str(error).splitlines() or [type(error).__name__])[0][:120]
    return complaint


def unsupported(model: PreTrainedModel, unreached: dict[str, str]) -> UnsupportedModel:
    """The refusal of a model whose attention cannot be seen, with the reason."""
    reasons = sorted(set(unreached.values()))
    return UnsupportedModel(
        "headwise cannot see this model's attention.",
        evidence=f"{type(model).__name__}: {'; '.join(reasons) or 'no attention module ran'}",
        remedy='Load it with attn_implementation="eager"; attention without a softmax matrix stays out of reach.',
    )


def first_output(output: Any) -> Tensor:
    """The logits of a model's output, or its first tensor."""
    for name in ("logits", "last_hidden_state", "logits_per_image"):
        value = getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    values = output.values() if hasattr(output, "values") else output
    return next(value for value in values if isinstance(value, Tensor))
