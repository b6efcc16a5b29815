"""Alignment of tokens with the primary sink along the residual stream."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def active_levels(norms: Float[Tensor, " level"]) -> tuple[int, int]:
    """First level of a primary sink's life and the one behind its last, by the largest rise and the largest fall.

    Wong et al., "On the Existence and Behaviour of Secondary Attention Sinks" (arXiv 2512.22213), as released. Of two
    levels or fewer, all.

    Args:
        norms: of the residual of the primary sink, level by level.

    Example:
        >>> active_levels(torch.tensor([1.0, 1.0, 9.0, 9.0, 2.0, 2.0]))
        (2, 4)
    """
    change = norms.diff()
    if len(change) < 2:
        return 0, len(norms)
    start = int(change.argmax()) + 1
    falls = change[start:]
    return start, int(falls.argmin()) + start + 1 if len(falls) else len(norms)


def alignment(
    residuals: Float[Tensor, "level position width"], primary: int
) -> Float[Tensor, "level position"]:
    """Size of the cosine between every token and the primary sink, 0 to 1, level by level.

    Args:
        residuals: of one example, without padding.
        primary: position of the primary sink.

    Example:
        >>> alignment(torch.tensor([[[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]]), 0)
        tensor([[1., 1., 0.]])
    """
    return torch.cosine_similarity(residuals, residuals[:, primary, None], dim=-1).abs()


def written_shares(
    residuals: Float[Tensor, "level position width"], primary: int
) -> Float[Tensor, "level position"]:
    """Share of a token's part in the primary direction that the step to a level wrote: <x_l - x_(l-1), v> / <x_l, v>.

    v is the primary sink at level l (ours). 1 where the step wrote all of it, 0 where it was there before; NaN at the
    first level.

    Example:
        >>> written_shares(torch.tensor([[[5.0, 0.0], [0.0, 1.0]], [[5.0, 0.0], [4.0, 1.0]]]), 0)[1]
        tensor([0., 1.])
    """
    direction = residuals[1:, primary, None]
    whole, new = ((x * direction).sum(-1) for x in (residuals[1:], residuals.diff(dim=0)))
    return torch.cat([torch.full_like(whole[:1], torch.nan), new / whole])
