"""The frame at which every token begins, from the cross-attention of a few heads, by dynamic time warping.

The method is Whisper's (openai/whisper, `timing.py`): crop to the real sound, let rows sum to one again, standardise
every frame over the tokens, smooth along time, average heads, and find the best monotone path.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_WIDTH = 7
_SMALL = 1e-8


def token_start_frames(
    weights: Float[Tensor, "head row frame"], *, first: int, frames: int
) -> Int[np.ndarray, " kept"]:
    """The frame at which the path enters each row.

    Args:
        weights: cross-attention of the heads that follow the sound; row i is the step that predicts token
            i + 1 of the decoder's input.
        first: rows before this one belong to the prompt. They take part in the standardisation only.
        frames: how many frames are sound; what comes after is padding.

    Returns:
        One frame per row from `first` on, never falling; the last one belongs to the end of the text.

    Raises:
        ValueError: there is no head, no row or no frame left.

    Example:
        >>> weights = torch.eye(3).repeat_interleave(9, -1)[None]
        >>> token_start_frames(weights, first=0, frames=27).tolist()
        [0, 9, 18]
    """
    sound = weights[..., :frames]
    if 0 in sound[:, first:].shape:
        raise ValueError(f"There is nothing to align: shape {tuple(sound[:, first:].shape)}")
    sound = sound.float()
    sound = sound / sound.sum(-1, keepdim=True).clamp_min(_SMALL)
    sound = (sound - sound.mean(-2, keepdim=True)) / sound.std(-2, keepdim=True, unbiased=False).clamp_min(
        _SMALL
    )
    return dtw_path(-_smooth(sound).mean(0)[first:].numpy())


def dtw_path(cost: Float[np.ndarray, "row column"]) -> Int[np.ndarray, " row"]:
    """The column at which the cheapest monotone path from corner to corner enters each row.

    Of equal costs the step to the left is taken, as in Whisper.

    Example:
        >>> dtw_path(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])).tolist()
        [0, 1]
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    step_to = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            diagonal, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            step_to[i, j] = (
                0 if diagonal < up and diagonal < left else 1 if up < diagonal and up < left else 2
            )
            total[i, j] = cost[i - 1, j - 1] + min(diagonal, up, left)
    step_to[0, :], step_to[:, 0] = 2, 1
    entered = np.zeros(rows, dtype=np.int64)
    i, j = rows, columns
    while i > 0:
        entered[i - 1] = max(j - 1, 0)
        step = step_to[i, j]
        i, j = i - (step != 2), j - (step != 1)
    return entered


def _smooth(weights: Float[Tensor, "head row frame"]) -> Float[Tensor, "head row frame"]:
    """Median over 7 frames, mirrored at the ends; left alone where there are too few."""
    half = _WIDTH // 2
    if weights.shape[-1] <= half:
        return weights
    padded = torch.nn.functional.pad(weights, (half, half), mode="reflect")
    return padded.unfold(-1, _WIDTH, 1).median(-1).values
