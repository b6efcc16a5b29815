"""Attention moved between keys: hidden keys, sinks turned down (calibration), visual redistribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SHARE_OF_BOUND = 0.3125
"""The paper's threshold of sink scores, 20 at width 4096, as a share of the largest possible, the root of the width."""
_TINY = 1e-30


def sink_score(residual: Float[Tensor, "*lead width"], dimensions: Sequence[int]) -> Float[Tensor, "*lead"]:
    """How far the largest of some dimensions of a residual stands out: max |x[d]| / rms(x).

    Between 0 and the root of the width. Sinks share a few dimensions in which they are huge; VAR calls a token a sink
    from 20 at width 4096. Kang et al. 2025 (arXiv 2503.03321).

    Example:
        >>> sink_score(torch.tensor([[3.0, 4.0]]), [1]).tolist()
        [1.1313...]
    """
    wide = residual.float()
    largest = wide[..., list(dimensions)].abs().amax(-1)
    return largest * torch.rsqrt(wide.square().mean(-1) + 1e-6)


def standing_out(ratios: Float[Tensor, "place width"], least: float, *, most: int = 4) -> tuple[int, ...]:
    """Dimensions that reach `least` in half of some places or more; of them, the `most` with the largest mean (ours).

    Args:
        ratios: |x[d]| / rms(x) at every place.
        least: 0 or more.
        most: number of dimensions.

    Returns:
        In rising order.

    Example:
        >>> standing_out(torch.tensor([[1.0, 9.0, 2.0], [1.0, 8.0, 6.0]]), 5.0)
        (1, 2)
    """
    often, mean = (ratios >= least).float().mean(0) >= 0.5, ratios.mean(0)
    order = [one for one in mean.argsort(descending=True).tolist() if bool(often[one])]
    return tuple(sorted(order[:most]))


def redistribute(
    pattern: Float[Tensor, "batch head query key"],
    *,
    image: Bool[Tensor, "batch key"],
    sinks: Bool[Tensor, "batch key"],
    p: float = 0.6,
    rho: float = 0.8,
    least_mass: float = 0.2,
    require_visual_sink: bool = True,
    rows: Bool[Tensor, "batch query"] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """Moves the share `p` of the attention on sinks to image tokens that are none, in proportion to what they have.

    A row is changed when its head looks at the image (mass on image tokens at least `least_mass`), and there mostly at
    tokens that are no sinks (their share of that mass at least `rho`). Sums of rows stay as they are. Kang et al. 2025
    (arXiv 2503.03321).

    Args:
        pattern: attention probabilities.
        image: True on image tokens.
        sinks: True on sinks, of the image and of the text.
        p: the share moved, 0 to 1.
        rho: 0 to 1; the paper has 0.8 for general tasks, 0.5 for hallucination, 0.9 for vision-centric tasks.
        least_mass: 0 to 1.
        require_visual_sink: leave examples alone whose image has no sink.
        rows: False on rows to leave alone.

    Returns:
        A new pattern, in the dtype of the given one; the given one when no row is changed.

    Example:
        >>> row = torch.tensor([0.30, 0.05, 0.10, 0.20, 0.15, 0.05, 0.10, 0.05]).view(1, 1, 1, 8)
        >>> image = torch.tensor([[False, False, True, True, True, True, False, False]])
        >>> sinks = torch.tensor([[True, False, False, True, False, False, False, False]])
        >>> redistribute(row, image=image, sinks=sinks, rho=0.5).flatten()
        tensor([0.1200, 0.0500, 0.2000, 0.0800, 0.3000, 0.1000, 0.1000, 0.0500])
    """
    weights = weights_of(image, sinks, p=p, rho=rho, require_visual_sink=require_visual_sink)
    change = change_of(pattern, weights, bias_of(weights, least_mass), rows=rows)
    return grown(pattern, change) if bool(change.any()) else pattern


def grown(pattern: Tensor, change: Tensor) -> Tensor:
    """The pattern, every weight grown by a share of itself; computed in float32 or wider."""
    wide = pattern.to(torch.promote_types(pattern.dtype, torch.float32))
    change = torch.nn.functional.pad(change, (0, pattern.shape[-1] - change.shape[-1]))
    return torch.addcmul(wide, wide, change.to(wide.dtype)).to(pattern.dtype)


def weights_of(
    image: Tensor, sinks: Tensor, *, p: float, rho: float, require_visual_sink: bool
) -> Float[Tensor, "batch key 6"]:
    """What a key counts for in the sums that decide on a row, and what becomes of it.

    Columns: attention on clear image tokens; the share of it on sinks that would be moved; on the image; on clear image
    tokens beyond the share rho of the image's; the first once more; what is lost. All zero in examples that are left
    alone.
    """
    visual, clear = image & sinks, image & ~sinks
    columns = [clear, sinks * p, image, clear * 1.0 - image * rho, clear, sinks * -p]
    weights = torch.stack([column.float() for column in columns], -1)
    return weights * visual.any(-1)[:, None, None] if require_visual_sink else weights


def bias_of(weights: Tensor, least_mass: float) -> Float[Tensor, "1 1 5"]:
    """What is added to the sums, so that a row is chosen when the last three are not negative."""
    return weights.new_tensor([_TINY, 0.0, -least_mass, 0.0, -_TINY])[None, None]


def change_of(
    pattern: Tensor, weights: Tensor, bias: Tensor, *, rows: Tensor | None
) -> Float[Tensor, "batch head query key_of_weights"]:
    """What every weight is to grow by, as a share of itself; exactly 0 in rows that are not chosen.

    Few operations: this runs in every layer for every token that is decoded. Nothing is moved to or from keys behind
    those of `weights`.
    """
    batch, heads, count, _ = pattern.shape
    keys = weights.shape[1]
    flat = pattern[..., :keys].reshape(batch, heads * count, keys).float()
    sums = torch.baddbmm(bias, flat, weights[..., :5].expand(batch, -1, -1))
    chosen = sums[..., 2:].amin(-1, keepdim=True) >= 0
    if rows is not None:
        chosen = chosen & rows[:, None].expand(-1, heads, -1).reshape(chosen.shape)
    below = sums[..., :1]
    if sums.requires_grad:  # the derivative of a division by nothing is no number, not even times zero
        below = torch.where(chosen, below, 1.0)
    gain = sums[..., 1:2] / below
    clear, lost = weights[..., 0].unsqueeze(1), weights[..., 5].unsqueeze(1)
    change = torch.addcmul(lost, gain, clear) * chosen
    return change.view(batch, heads, count, keys)


def hide_keys(
    pattern: Float[Tensor, "*lead query key"], hidden: Bool[Tensor, "*#lead #query key"]
) -> Float[Tensor, "*lead query key"]:
    """The pattern without the weight on hidden keys; the others grow in proportion, and rows keep their sums.

    The same as hiding the keys before the softmax. Rows that look at nothing else are left alone.

    Example:
        >>> hide_keys(torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[True, False, False]]))
        tensor([[0.0000, 0.5000, 0.5000]])
    """
    wide = pattern.to(torch.promote_types(pattern.dtype, torch.float32))
    left = wide.masked_fill(hidden, 0.0)
    rest = left.sum(-1, keepdim=True)
    grown = left * (wide.sum(-1, keepdim=True) / rest.clamp_min(_TINY))
    return torch.where(rest > _TINY, grown, wide).to(pattern.dtype)


def calibrate(
    pattern: Float[Tensor, "*lead query key"], sinks: Bool[Tensor, "*#lead #query key"], *, beta: float = 0.4
) -> Float[Tensor, "*lead query key"]:
    """Attention on sinks times `beta`; what is freed goes to the other keys in proportion to what they have.

    Sums of rows stay as they are; rows that look at nothing else are left alone. Yu et al. 2024 (ICML), after their
    code.

    Example:
        >>> row, sink = torch.tensor([[0.4, 0.4, 0.2]]), torch.tensor([[False, True, False]])
        >>> calibrate(row, sink)
        tensor([[0.5600, 0.1600, 0.2800]])
    """
    wide = pattern.float()
    on_sinks = (wide * sinks).sum(-1, keepdim=True)
    rest = wide.masked_fill(sinks, 0.0).sum(-1, keepdim=True)
    grow = on_sinks * (1 - beta) / rest.clamp_min(1e-6) + 1
    new = wide * torch.where(sinks, beta, grow)
    if float(rest.detach().amin()) < 1e-6:
        new = torch.where(rest < 1e-6, wide, new)
    return new.to(pattern.dtype)
