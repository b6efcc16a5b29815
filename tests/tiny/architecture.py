"""One row of the registry: a tiny model with fixed weights, its inputs, and what headwise sees of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = dict[str, torch.Tensor]
Expected = Literal["pass", "partial", "fallback", "refused", "none"]

TEXT = {"text self": 2}
VISION = {"vision self": 2}
ENCODER = {"encoder self": 2}
TEXT_AND_VISION = TEXT | VISION
ENCODER_DECODER = {"encoder self": 2, "decoder self": 2, "decoder cross": 2}


@dataclass(frozen=True)
class Architecture:
    """A tiny model of one architecture.

    `expected` is what a capture gives:

    - `pass`: every attention module reached through the transformers attention interface;
    - `partial`: as `pass` for the sites listed, and the modules in `unreached` are named as not seen;
    - `fallback`: every site seen, at least one of them only by intercepting its softmax;
    - `refused`: `UnsupportedModel` (no attention that can be seen exactly);
    - `none`: the model has no attention.
    """

    name: str
    model: str
    """Class name in transformers; its `config_class` is given `settings`."""
    settings: Mapping[str, Any]
    inputs: Mapping[str, Callable[[], Inputs]]
    """Variants of the input, made afresh at every call: `plain`, and `padded` where padding is possible."""
    sites: Mapping[str, int] = field(default_factory=lambda: TEXT)
    """How many attention computations one forward makes, per "stack kind"."""
    expected: Expected = "pass"
    unreached: tuple[str, ...] = ()
    """Qualified names of attention modules that run where headwise cannot see them."""
    attention: str | None = None
    """Attention implementation that a user has to ask for; None where the class's own choice will do."""

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model in evaluation mode, with the same weights at every call."""
        model_class = _model_class(self.model)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            config = model_class.config_class(**self.settings)
            attention = attention or self.attention
            chosen = {} if attention is None else {"attn_implementation": attention}
            model = model_class._from_config(config, **chosen).eval()
            spread_weights(model)
        return model

    def __str__(self) -> str:
        return self.name


def route_of(model_type: str) -> Expected:
    """What a capture gives of a family that moved to the attention interface in one of the verified releases."""
    source = find_spec(f"transformers.models.{model_type}.modeling_{model_type}")
    assert source is not None
    assert source.origin is not None
    return "pass" if "ALL_ATTENTION_FUNCTIONS" in Path(source.origin).read_text() else "fallback"


def _model_class(name: str) -> type[PreTrainedModel]:
    import transformers

    with warnings.catch_warnings():  # torch's, of the functions that DeBERTa scripts when it is imported
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is", DeprecationWarning)
        return getattr(transformers, name)


def spread_weights(model: torch.nn.Module) -> None:
    """Draw every matrix from N(0, 0.15²), in place; the usual initial weights give patterns that are flat."""
    for parameter in model.parameters():
        if parameter.dim() >= 2 and parameter.numel():
            torch.nn.init.normal_(parameter, std=0.15)
