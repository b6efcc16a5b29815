"""What a recipe says: the model to start from, the batches of every step, the loss."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Parameter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one optimiser: AdamW under a one-cycle schedule."""

    name: str
    steps: int
    rate: float
    """Peak learning rate."""
    warm_up: float = 0.05
    """Share of the steps before the peak."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    """Largest norm of the gradient."""
    keep: Mapping[int, str] = field(default_factory=dict)
    """Steps after which the model is kept as a checkpoint of that name."""


class Recipe(ABC):
    """How one model of the zoo comes to be. The same recipe and seed give the same batches everywhere."""

    name: str
    """Name in the zoo, without `zoo:`."""
    seed: int = 0
    phases: tuple[Phase, ...]

    @abstractmethod
    def build(self) -> tuple[PreTrainedModel, Any]:
        """The untrained model and its processor (tokenizers are trained here), both from `self.seed`."""

    @abstractmethod
    def batch(self, phase: Phase, step: int) -> dict[str, Tensor]:
        """The batch of one step, from `self.random(phase, step)` alone, on the CPU."""

    @abstractmethod
    def loss(
        self, model: PreTrainedModel, phase: Phase, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss to go down, and what the progress line shows beside it (accuracies, 0 to 1)."""

    def parameters(self, model: PreTrainedModel, phase: Phase) -> Iterable[Parameter]:
        """What this phase trains; everything else is frozen meanwhile."""
        return model.parameters()

    def random(self, phase: Phase, step: int) -> random.Random:
        """The random numbers of one step, so that a resumed run goes on as if it had never stopped."""
        return random.Random(f"{self.name}/{self.seed}/{phase.name}/{step}")

    def finish(self, model: PreTrainedModel) -> None:  # noqa: B027  # most recipes have none
        """Last settings before the model is saved, such as those of its `generation_config`."""
