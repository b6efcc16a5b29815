"""Trials: the ways in which people run a model, each tried out with the engine and compared with a plain run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import HeadwiseError
from headwise.probes.check.probe_inputs import padded_batch
from headwise.probes.check.reference import Comparison
from headwise.probes.engine.instrumentation import Hub, attached
from headwise.probes.trace.buffer import Want

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One way of running a model, tried out."""

    name: str
    difference: float = math.nan
    """Largest difference of logits from those of a plain run, relative to the largest."""
    problem: str = ""
    """What is wrong; empty when the engine follows the model."""
    note: str = ""
    """What the model does on its own account, or why it could not be tried."""

    @property
    def passed(self) -> bool:
        """True when it was tried and nothing is wrong."""
        return not self.problem and not math.isnan(self.difference)


def try_forward(hub: Hub, inputs: Inputs, plain: Tensor) -> tuple[Trial, Comparison]:
    """One forward; `plain` is what the model gives without the engine. With what the engine saw of it."""
    return _forward("forward", hub, inputs, plain, torch.ones(len(plain), 1, dtype=torch.bool))


def try_padded_batch(hub: Hub, inputs: Inputs) -> Trial:
    """A batch of three: an example without padding, one padded on the left, one on the right."""
    name, model = "padded batch", hub.model
    batch = padded_batch(model, inputs)
    if batch is None:
        return Trial(name, note="the model takes no mask")
    try:
        plain = first_output(model(**batch))
    except Exception as error:
        return Trial(name, note=f"the model does not run on it: {first_line(error)}")
    if len(plain) != len(batch["attention_mask"]):
        return Trial(name, note="its output is not one per example")
    real = batch["attention_mask"].bool()
    if plain.shape[1] != real.shape[1]:  # what is pooled, or a decoder's rows, are those of examples
        real = torch.ones(len(plain), 1, dtype=torch.bool, device=plain.device)
        real[1] = False  # a model that pools its first position pools padding
    trial, session = _forward(name, hub, batch, plain, real)
    if trial.problem:
        return trial
    masks = [axis.valid.cpu() for run in session.runs for axis in run.layout().axes.values()]
    expected = batch["attention_mask"].bool().cpu()
    known = [mask for mask in masks if mask.shape == expected.shape]
    if known and not any(torch.equal(mask, expected) for mask in known):
        return Trial(name, trial.difference, "headwise does not see which positions are padding")
    return trial


def relative(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest finite value (1 where that is smaller)."""
    if one.shape != other.shape:
        return math.inf
    if not one.numel():
        return 0.0
    one, other = one.detach().float(), other.detach().float()
    scale = max(1.0, float(other.where(other.isfinite(), 0.0).abs().max()))
    same = (one == other) | (one.isnan() & other.isnan())
    return float((one - other).abs().where(~same, 0.0).nan_to_num(nan=math.inf).max()) / scale


def tolerance(model: PreTrainedModel) -> float:
    """The largest relative difference that is rounding."""
    return of_coarsest(model, _TOLERANCE, 1e-3)


def of_coarsest(model: PreTrainedModel, tolerances: Mapping[torch.dtype, float], otherwise: float) -> float:
    """The tolerance of the coarsest dtype that a weight of the model has; dtypes that are not named have another."""
    types = {weight.dtype for weight in model.parameters()}
    return max((tolerances.get(one, otherwise) for one in types), default=otherwise)


def first_output(output: Any) -> Tensor:
    """The logits of a model's output, or its first tensor."""
    for name in ("logits", "last_hidden_state", "logits_per_image"):
        value = getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    values = output.values() if hasattr(output, "values") else output
    return next(value for value in values if isinstance(value, Tensor))


def first_line(error: BaseException) -> str:
    """What an exception says, cut to a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _forward(name: str, hub: Hub, inputs: Inputs, plain: Tensor, real: Tensor) -> tuple[Trial, Comparison]:
    model, session = hub.model, _session(hub)
    torch.manual_seed(0)
    try:
        with attached(hub, session):
            engine = first_output(model(**inputs))
    except HeadwiseError:
        raise
    except Exception as error:
        return Trial(
            name, problem=f"the model runs alone, but not with headwise: {first_line(error)}"
        ), session
    rows = real.to(plain.device).expand(plain.shape[:2]) if plain.dim() > 1 else real[:, 0].to(plain.device)
    if bool(plain[rows].isnan().any()):
        return Trial(name, note="the model's own output is NaN on it"), session
    if engine.shape != plain.shape:
        return Trial(
            name, problem=f"its output has shape {tuple(engine.shape)}, alone {tuple(plain.shape)}"
        ), session
    apart = relative(engine[rows], plain[rows])
    problem = session.problem(tolerance(model))
    if not problem and not apart <= tolerance(model):
        problem = f"largest difference {apart:.2g} of the largest logit on a few tokens"
    return Trial(name, apart, problem), session


def _session(hub: Hub) -> Comparison:
    return Comparison(hub.model, None, hub.language, want=Want())
