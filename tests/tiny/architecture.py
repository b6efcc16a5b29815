"""One row of the registry: a tiny model with fixed weights, its inputs, and what headwise sees of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headwise.testing.inputs import Inputs
from headwise.testing.models import build_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
    """How many attention computations one forward makes, per "tower kind"."""
    expected: Expected = "pass"
    unreached: tuple[str, ...] = ()
    """Qualified names of attention modules that run where headwise cannot see them."""
    attention: str | None = None
    """Attention implementation that a user has to ask for; None where the class's own choice will do."""

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model in evaluation mode, with the same weights at every call."""
        return build_model(self.model, self.settings, attention or self.attention)

    def __str__(self) -> str:
        return self.name


def route_of(model_type: str) -> Expected:
    """What a capture gives of a family that moved to the attention interface in one of the verified releases."""
    source = find_spec(f"transformers.models.{model_type}.modeling_{model_type}")
    assert source is not None
    assert source.origin is not None
    return "pass" if "ALL_ATTENTION_FUNCTIONS" in Path(source.origin).read_text() else "fallback"
