"""What tells the weights of one checkpoint from those of another, whatever type they are held in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from headwise.model.fingerprint import fingerprint, sampled

SAMPLES = 512
"""About as many values a spec keeps of a model, and two of every tensor at least."""
Hex = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]

_STEP = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Distance of neighbours at 1."""
_WIDE = ("float32", "float64")


class Weights(BaseModel):
    """A model's weights: digests of all, and some of the values."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    digest: Hex
    """`headwise.model.fingerprint.fingerprint` of them, as they are held."""
    form: Hex
    """Of the names and shapes of all tensors."""
    types: Hex
    """Of the names and types of all tensors."""
    sample: Annotated[str, Field(pattern="^[A-Za-z0-9+/]*={0,2}$", max_length=2**20)]
    """Some values of every tensor as float32 in base64, NaN where they were out of reach."""

    @field_validator("sample")
    @classmethod
    def _whole_numbers(cls, sample: str) -> str:
        if len(base64.b64decode(sample, validate=True)) % 4:
            raise ValueError("not a list of float32")
        return sample

    @property
    def values(self) -> np.ndarray:
        """The sample as numbers."""
        return np.frombuffer(base64.b64decode(self.sample), dtype="<f4")


def weights_of(model: nn.Module) -> Weights:
    """The weights of a model.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> whole = weights_of(model)
        >>> difference(whole, "float32", weights_of(model.bfloat16()), "bfloat16")
        ''
    """
    tensors = sorted(model.state_dict().items())
    count = max(2, SAMPLES // max(1, len(tensors)))
    parts = [_values(tensor, count) for _, tensor in tensors]
    sample = np.concatenate([np.zeros(0, "<f4"), *parts])
    return Weights(
        digest=fingerprint(model),
        form=_digest(f"{name}{tuple(tensor.shape)}" for name, tensor in tensors),
        types=_digest(f"{name}{tensor.dtype}{tensor.is_meta}" for name, tensor in tensors),
        sample=base64.b64encode(sample.tobytes()).decode("ascii"),
    )


def difference(written: Weights, written_type: str, own: Weights, own_type: str) -> str:
    """In what the weights of two models differ; "" when both are one checkpoint.

    Held in one type, every value that the fingerprint reads must be equal. Held in two, every value of the sample
    must be what rounding to the coarser type makes of the other: a fine-tune whose every change is lost in that
    rounding cannot be told from its origin.
    """
    if written.digest == own.digest:
        return ""
    if written.form != own.form:
        return "names or shapes of tensors"
    if written.types == own.types:
        return "values"
    one, other = written.values, own.values
    if len(one) != len(other):
        return "values"
    known = ~(np.isnan(one) | np.isnan(other))
    if not known.any():
        return "values, all of which are out of reach"
    allowed = _allowance(one, other, written_type, own_type)
    with np.errstate(invalid="ignore"):
        apart = (one != other) & ~(np.abs(one.astype("f8") - other.astype("f8")) <= allowed)
    count = int((apart & known).sum())
    return f"{count} of {int(known.sum())} sampled values, by more than rounding" if count else ""


def _allowance(one: np.ndarray, other: np.ndarray, *types: str) -> np.ndarray:
    """How far apart two roundings of one number can be: half a step of the coarser type, and of one on the way."""
    none = np.zeros(len(one))
    if not all(name in _STEP or name in _WIDE for name in types):  # quantised
        return none
    step = max((_STEP.get(name, 0.0) for name in types), default=0.0)
    largest = np.maximum(np.abs(one), np.abs(other)).astype("f8")
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 0.0))[1] - 1
    smallest = 2.0**-24 if step else 0.0  # the last step of float16 before 0; it may be the type on the way
    return np.ldexp(step, exponent) * 0.5625 + smallest * 0.5


def _values(tensor: Tensor, count: int) -> np.ndarray:
    flat, places = sampled(tensor, count)
    if flat is None:
        return np.full(len(places), np.nan, dtype="<f4")
    return flat.cpu().numpy().astype("<f4")


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
