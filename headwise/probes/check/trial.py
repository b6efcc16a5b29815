"""Trial of one way in which people run a model: the engine beside a plain run, and how far apart they may be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.model.device import input_device

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
    """Problem that was found; empty when the engine follows the model."""
    note: str = ""
    """Peculiarity of the model itself, or the reason why it could not be tried."""

    @property
    def passed(self) -> bool:
        """True when it was tried and nothing is wrong."""
        return not self.problem and not math.isnan(self.difference)


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
    """Message of an exception, cut to a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Without gradients and autocast; the random state is kept."""
    device = input_device(model)
    devices = [device] if device.type == "cuda" else []
    plainly = torch.autocast(device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), torch.no_grad(), plainly:
        yield
