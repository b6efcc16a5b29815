"""The spectrogram that an example is heard from: its real frames, changed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.errors import InputError
from headwise.functional.explained import explained
from headwise.functional.perturbation import frame_windows
from headwise.layout.audio import frames_per_position, real_frames, spectrogram
from headwise.layout.axes import ROLES
from headwise.saliency.explained import Explained, repeated
from headwise.saliency.masks import Spes
from headwise.saliency.segments import segments


@dataclass(frozen=True, eq=False)
class Sound:
    """The frames of the sound of an example, without padding."""

    example: Explained
    frames: Float[Tensor, "frame band"]
    windows: Int[Tensor, "position 2"]
    """Frames of every position of the encoder that holds sound."""

    def labels(self, options: Spes) -> list[Int[np.ndarray, "frame band"]]:
        """Segments of every level."""
        return segments(self.frames.float().cpu().numpy(), options.levels, shape=options.shape)

    def values(
        self, hidden: Bool[Tensor, "copy frame band"] | None, options: Spes
    ) -> Float[Tensor, "copy token"]:
        """The explained number of every token of the reply, when cells of the spectrogram are hidden."""
        question = self.example.question
        inputs = repeated(question.inputs, 1 if hidden is None else len(hidden))
        if hidden is not None:
            inputs["input_features"] = inputs["input_features"].clone()
            heard: Any = spectrogram(question.subject.model, inputs)  # a view
            filled = self._filled(options).where(hidden.to(heard.device), self.frames)
            heard[:, : len(self.frames)] = filled
        model: Any = question.subject.model
        with torch.no_grad():
            logits = model(**inputs).logits[:, -len(question.reply) :]
        ids = torch.tensor(question.reply, device=logits.device)
        reference = self.example.reference if self.example.target == "kl" else None
        return explained(logits, ids, target=self.example.target, reference=reference).cpu()

    def _filled(self, options: Spes) -> Float[Tensor, " band"]:
        """What takes the place of hidden cells."""
        if options.filling == "mean":
            return self.frames.mean(0)
        floor = self.frames.min() if options.filling == "floor" else 0.0
        return torch.zeros_like(self.frames[0]) + floor


def sound_of(example: Explained) -> Sound:
    """The sound of an example.

    Raises:
        InputError: the model reads no spectrogram, or there is silence alone.
    """
    question = example.question
    model, inputs = question.subject.model, question.inputs
    heard = spectrogram(model, inputs)
    axis = question.layout.axes.get("encoder")
    if heard is None or axis is None:
        raise InputError(
            "There is no spectrogram to hide parts of.",
            evidence=f"{type(model).__name__} is given {', '.join(inputs)}",
            remedy='Use a method that takes positions, such as "gradient x input", or give audio=.',
        )
    real = real_frames(model, inputs)
    frames = heard[0] if real is None else heard[0, : int(real[0])]
    if len(frames) == 0 or frames.amax() == frames.amin():
        raise InputError(
            "The sound is silent, so that no part of it counts.",
            evidence=f"all of its {len(frames)} frames are alike",
            remedy="Give a sound in which something can be heard.",
        )
    positions = int((axis.roles[0] == ROLES.index("audio")).sum())
    return Sound(example, frames, frame_windows(len(frames), positions, stride=frames_per_position(model)))
