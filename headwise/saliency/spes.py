"""SPES at the positions of the encoder, and random masks on the positions of any tower."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.functional.perturbation import Pooling, pool_frames
from headwise.layout.axes import ROLES, Axis
from headwise.saliency.explained import Explained, Leaves, Maps
from headwise.saliency.masks import Spes, perturbed
from headwise.saliency.paths import baseline
from headwise.saliency.sound import sound_of

DEFAULT = Spes()


def spes(example: Explained, options: Spes = DEFAULT, pooling: Pooling = "max") -> Maps:
    """SPES at the positions of the encoder: what the explained number loses when their frames are hidden.

    Above the mean of all masks, so that 0 is where nothing counts. Positions behind the sound have no value. At the
    output of the encoder, positions are hidden in the place of frames.

    Raises:
        InputError: there is no spectrogram, or it is silent.
    """
    sound = sound_of(example)
    if example.at == "encoder_output":
        return random_masks(example, options)
    pooled = pool_frames(perturbed(sound, options).map(), sound.windows, pooling=pooling)
    return {"encoder": _spread(pooled, _real(example.question.layout.axes["encoder"]))}


def random_masks(example: Explained, options: Spes = DEFAULT) -> Maps:
    """What the explained number loses when a position is hidden, among others at random (RISE, arXiv 1806.07421).

    Above the mean of all masks. Hidden states that enter a tower are replaced by their mean over positions in front
    of the reply (ours), those that cross-attention reads by 0, as Papi et al. 2025 do.

    Args:
        example: what is explained.
        options: masks, chance to be hidden, and seed; positions have no levels.
    """
    with torch.no_grad():
        _, entered = example.forward()
    source = Positions(example, entered)
    found = perturbed(source, options).map()[..., 0]
    parts = found.split([int(real.sum()) for real in source.real.values()], dim=1)
    return {
        tower: _spread(part, real) for (tower, real), part in zip(source.real.items(), parts, strict=True)
    }


@dataclass(frozen=True, eq=False)
class Positions:
    """All real positions of the towers of an example, tower after tower."""

    example: Explained
    entered: Leaves

    @property
    def real(self) -> dict[str, Bool[Tensor, " position"]]:
        """True on what can be hidden, by tower."""
        axes = self.example.question.layout.axes
        return {tower: _real(axes[tower])[: hidden.shape[1]] for tower, hidden in self.entered.items()}

    def labels(self, options: Spes) -> list[Int[np.ndarray, "position one"]]:
        """Every position is a segment of its own."""
        return [np.arange(sum(int(real.sum()) for real in self.real.values()))[:, None]]

    def values(
        self, hidden: Bool[Tensor, "copy position one"] | None, options: Spes
    ) -> Float[Tensor, "copy token"]:
        """The explained number of every token of the reply, with sets of positions hidden."""
        with torch.no_grad():
            if hidden is None:
                return self.example.forward()[0].cpu()
            nothing, places = self._nothing, {}
            parts = hidden[..., 0].split([int(real.sum()) for real in self.real.values()], dim=1)
            for (tower, real), part in zip(self.real.items(), parts, strict=True):
                places[tower] = torch.zeros(len(hidden), len(real), dtype=torch.bool)
                places[tower][:, real] = part

            def change(tower: str, states: Tensor) -> Tensor:
                return nothing[tower].where(places[tower].to(states.device)[..., None], states)

            return self.example.forward(change, len(hidden))[0].cpu()

    @cached_property
    def _nothing(self) -> Leaves:
        """What takes the place of hidden positions."""
        if self.example.at == "encoder_output":
            return {tower: torch.zeros_like(states) for tower, states in self.entered.items()}
        return baseline(self.example)


def _real(axis: Axis) -> Bool[Tensor, " position"]:
    """True on positions that are no padding and no silence behind a sound."""
    return axis.valid[0].cpu() & (axis.roles[0].cpu() != ROLES.index("silence"))


def _spread(
    values: Float[Tensor, "token real"], real: Bool[Tensor, " position"]
) -> Float[Tensor, "token position"]:
    """A map of the real positions on all of them; NaN on the others."""
    whole = torch.full((len(values), len(real)), float("nan"))
    whole[:, real] = values
    return whole
