"""What random perturbations say: the mean effect of hiding a cell."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Scale = Literal["above mean", "raw", "standard"]


def hidden_means(
    effects: Float[Tensor, "mask token"], hidden: Bool[Tensor, "mask cell"]
) -> Float[Tensor, "token cell"]:
    """Mean effect of the masks that hide a cell: SPES of Fucci et al. 2024 (arXiv 2411.01710) in step 6.

    An irrelevant cell has about the mean effect of all masks, not 0: see `scaled`. A cell that no mask hides gives NaN.

    Args:
        effects: of every mask on every token, 0 or more for a divergence.
        hidden: the cells that each mask hides.

    Example:
        >>> hidden = torch.tensor([[True, False], [False, True], [True, True]])
        >>> hidden_means(torch.tensor([[4.0], [1.0], [1.0]]), hidden)
        tensor([[2.5000, 1.0000]])
    """
    sums = effects.double().T @ hidden.double()
    return (sums / hidden.sum(0)).to(effects.dtype)


def scaled(
    relevance: Float[Tensor, "*map"],
    effects: Float[Tensor, "mask token"],
    *,
    scale: Scale = "above mean",
) -> Float[Tensor, "*map"]:
    """Relevances of `hidden_means` on a scale of their own for every token.

    Args:
        relevance: mean effects.
        effects: of every mask.
        scale: `"above mean"` (ours) takes off the mean effect of all masks, so that an irrelevant cell is at 0;
            `"raw"` leaves them; `"standard"` takes off the mean over cells and divides by their standard deviation
            (n - 1), as released (step 7), in two passes. Equal cells give 0.

    Example:
        >>> scaled(torch.tensor([[2.5, 1.0]]), torch.tensor([[4.0], [1.0], [1.0]]))
        tensor([[ 0.5000, -1.0000]])
    """
    if scale == "raw":
        return relevance
    cells = tuple(range(1, relevance.ndim))
    if scale == "standard":
        wide = relevance.double()
        far = wide - wide.mean(cells, keepdim=True)
        spread = (far.square().sum(cells, keepdim=True) / max(far[0].numel() - 1, 1)).sqrt()
        return (far / spread.where(spread > 0, torch.inf)).to(relevance.dtype)
    return relevance - effects.double().mean(0).to(relevance.dtype).reshape(-1, *[1] * len(cells))


def frame_windows(frames: int, positions: int, *, stride: int | None = None) -> Int[Tensor, "position 2"]:
    """First frame of every position and the one behind its last, where positions are made of `stride` frames each.

    Where the strides do not fill the frames (or none is known), windows are equal parts that may share a frame (ours).

    Example:
        >>> frame_windows(5, 3, stride=2).tolist(), frame_windows(5, 2).tolist()
        ([[0, 2], [2, 4], [4, 5]], [[0, 3], [2, 5]])
    """
    places = torch.arange(positions)
    if stride is not None and positions == -(-frames // stride):
        starts, ends = places * stride, (places + 1) * stride
    else:
        starts, ends = places * frames // positions, -(-(places + 1) * frames // positions)
    return torch.stack([starts, ends.clamp_max(frames)], 1)


Pooling = Literal["max", "mean", "max of bands"]


def pool_frames(
    values: Float[Tensor, "*lead frame band"], windows: Int[Tensor, "position 2"], *, pooling: Pooling = "max"
) -> Float[Tensor, "*lead position"]:
    """A map of time and frequency at the positions of an encoder (Papi et al. 2025, arXiv 2509.18010).

    Args:
        values: the map.
        windows: from `frame_windows`.
        pooling: `"max"` over the frames of a window and all bands, as the paper has chosen, since it keeps narrow
            bands; `"mean"` over both; `"max of bands"`, then the mean over frames.

    Example:
        >>> pool_frames(torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 4.0]]), frame_windows(3, 2, stride=2))
        tensor([1., 4.])
    """
    first = values if pooling == "mean" else values.amax(-1, keepdim=True)
    last = torch.amax if pooling == "max" else torch.mean
    parts = [last(first[..., start:end, :], (-2, -1)) for start, end in windows.tolist()]
    return torch.stack(parts, -1)
