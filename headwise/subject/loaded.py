"""A loaded model with its processor: what a subject is before it can prepare inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwise.layout.roles import tokenizer_of
from headwise.model.device import input_device

if TYPE_CHECKING:
    from torch import device
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModel:
    """A model and its processor, as what prepares their inputs needs them."""

    model: PreTrainedModel
    processor: Any = None
    """Processor, tokenizer, image processor or feature extractor; None for a bare model."""
    name: str = ""
    revision: str | None = None
    warnings: tuple[str, ...] = ()
    """What loading set at random or left out of the model's weights."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, or None."""
        return tokenizer_of(self.processor)

    @property
    def config(self) -> PreTrainedConfig:
        """The model's config."""
        return self.model.config

    @property
    def device(self) -> device:
        """Where the model's inputs belong."""
        return input_device(self.model)
