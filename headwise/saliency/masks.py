"""Saliency by hiding parts at random: SPES on spectrograms, and the same on positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.errors import InputError
from headwise.functional.perturbation import Scale, scaled
from headwise.model.fingerprint import fingerprint
from headwise.saliency.explained import Explained
from headwise.saliency.run_state import RunState, tensor_digest
from headwise.saliency.segments import Shape

Filling = Literal["mean", "zero", "floor"]
Progress = Callable[[int, int], None]
"""Told after every batch how many masks are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Spes:
    """How a spectrogram is perturbed: SPES of Fucci et al. 2024 (arXiv 2411.01710)."""

    masks: int = 1000
    """Perturbed copies, spread evenly over the levels. The paper has 20,000."""
    levels: tuple[int, ...] = (200, 500)
    """Segments of every level for 500 frames. The paper has 2,000, 2,500 and 3,000."""
    hide: float = 0.5
    """Chance of a segment to be hidden."""
    shape: Shape = "slic"
    filling: Filling = "mean"
    """What takes the place of a hidden part: the mean of its band, or of all positions; 0; or the smallest value."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what gives no map."""
        wrong = {
            "levels": not self.levels or min(self.levels) < 2,
            "masks": self.masks < 2 * len(self.levels),
            "hide": not 0 < self.hide < 1,
            "seed": self.seed < 0,
        }
        for name in filter(wrong.get, wrong):
            raise InputError(
                "A map needs levels of two segments or more, two masks or more of every level, a chance between 0 and "
                "1 to hide a segment, and a seed of 0 or more.",
                evidence=f"{name}={getattr(self, name)}",
                remedy=f"Leave {name} out for the default.",
            )


@runtime_checkable
class Hideable(Protocol):
    """Something of an example that can be hidden, cell by cell."""

    @property
    def example(self) -> Explained:
        """What is explained."""
        ...

    def labels(self, options: Spes) -> list[Int[np.ndarray, "row column"]]:
        """The number of every cell's segment, from 0, for every level."""
        ...

    def values(
        self, hidden: Bool[Tensor, "copy row column"] | None, options: Spes
    ) -> Float[Tensor, "copy token"]:
        """The explained number of every token of the reply, with sets of cells hidden."""
        ...


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Segments, and what every mask of them has changed."""

    options: Spes
    labels: list[Int[np.ndarray, "row column"]]
    effects: Float[Tensor, "mask token"]
    """What the explained number has lost; mask m is of level m modulo the number of levels."""

    def map(self, scale: Scale = "above mean") -> Float[Tensor, "token row column"]:
        """Mean effect of the masks that hide a cell, see `headwise.functional.perturbation.hidden_means`."""
        tokens, cells = self.effects.shape[1], self.labels[0].shape
        sums, counts = (
            torch.zeros(tokens, *cells, dtype=torch.float64),
            torch.zeros(cells, dtype=torch.float64),
        )
        for level, labels in enumerate(self.labels):
            own = range(level, len(self.effects), len(self.labels))
            hidden = torch.stack([hidden_segments(self.options, labels, mask) for mask in own]).double()
            place = torch.from_numpy(labels)
            sums += (self.effects[own].double().T @ hidden)[:, place]
            counts += hidden.sum(0)[place]
        return scaled((sums / counts).float(), self.effects, scale=scale)


def perturbed(
    source: Hideable,
    options: Spes,
    *,
    batch: int = 16,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Perturbed:
    """What every mask of a source changes.

    Args:
        source: what is hidden.
        options: how. The masks are the same for every size of batch.
        batch: copies that are run side by side.
        path: a file for what was measured so far, so that a run that is stopped goes on; None keeps nothing.
        progress: told after every batch.

    Raises:
        InputError: the file holds a run of another model, input or reply, or with other options.
    """
    labels = source.labels(options)
    total = options.masks // len(labels) * len(labels)
    ids = torch.tensor(source.example.question.reply)
    state = RunState(
        path, _run(source, options, labels), source.example.reference.cpu().gather(1, ids[:, None])[:, 0]
    )
    state.read(total)
    whole = source.values(None, options)
    try:
        for start in range(len(state.rows), total, batch):
            masks = range(start, min(start + batch, total))
            hidden = torch.stack([hidden_cells(options, labels, mask) for mask in masks])
            state.add(whole - source.values(hidden, options))
            if progress is not None:
                progress(masks.stop, total)
    finally:
        state.write()
    return Perturbed(options, labels, state.rows)


def _run(source: Hideable, options: Spes, labels: list[Int[np.ndarray, "row column"]]) -> dict[str, str]:
    """All that effects depend on, for a file."""
    example = source.example
    model = example.question.subject.model
    inputs = {name: value for name, value in example.question.inputs.items() if isinstance(value, Tensor)}
    return {
        "model": f"{type(model).__name__} {fingerprint(model)} {model.dtype}".replace("torch.", ""),
        "input and reply": tensor_digest(inputs)[:16],
        "last token": str(example.question.reply[-1]),
        "target": example.target,
        "at": example.at,
        **{name: str(value) for name, value in asdict(options).items()},
        "segments": tensor_digest({str(n): torch.from_numpy(level) for n, level in enumerate(labels)})[:16],
    }


def hidden_segments(
    options: Spes, labels: Int[np.ndarray, "row column"], mask: int
) -> Bool[Tensor, " segment"]:
    """The segments that a mask hides: they depend on its number and the seed alone."""
    draws = np.random.default_rng([options.seed, mask]).random(int(labels.max()) + 1)
    return torch.from_numpy(draws < options.hide)


def hidden_cells(
    options: Spes, labels: list[Int[np.ndarray, "row column"]], mask: int
) -> Bool[Tensor, "row column"]:
    """The cells that a mask hides."""
    own = labels[mask % len(labels)]
    return hidden_segments(options, own, mask)[torch.from_numpy(own)]
