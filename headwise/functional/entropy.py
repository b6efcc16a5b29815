"""How widely rows spread their attention."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST = 1e-6
"""Rows that leave less than this to keys that are no sinks say nothing about them."""


def row_entropy(
    attn: Float[Tensor, "*lead query key"], *, key_mask: Bool[Tensor, "*#lead key"] | None = None
) -> Float[Tensor, "*lead query"]:
    """Shannon entropy of every attention row, in nats.

    0 means one key takes all the weight; `log(n_keys)` means the row is flat.

    Args:
        attn: attention probabilities; rows sum to one over visible keys.
        key_mask: True where a key is real. Padded keys are dropped and the
            row is rescaled, so padding cannot change the answer.

    Returns:
        One value per row, float32 or wider. Rows with no real key give NaN.

    Example:
        >>> row_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0.0000, 0.6931])
    """
    p = attn.float() if attn.dtype in (torch.float16, torch.bfloat16) else attn
    if key_mask is not None:
        p = p.where(key_mask.unsqueeze(-2), 0.0)
        p = p / p.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1)


def normalised_entropy(
    entropy: Float[Tensor, "example head query"], *, n_keys: Float[Tensor, "example query"]
) -> Float[Tensor, "example head query"]:
    """Row entropy divided by the logarithm of the number of keys the row may see.

    0 means one key takes all the weight, 1 means the row is flat. A row that sees fewer than two keys has no
    choice to make and gives NaN.

    Args:
        entropy: row entropy in nats.
        n_keys: number of keys each row may see.

    Example:
        >>> normalised_entropy(torch.tensor([[[0.0, 0.6931]]]), n_keys=torch.tensor([[1.0, 4.0]]))
        tensor([[[   nan, 0.5000]]])
    """
    choices = n_keys.where(n_keys >= 2, torch.nan)[:, None]
    return entropy / choices.log()


def entropy_without(
    maps: Float[Tensor, "example head query key"],
    sinks: Bool[Tensor, "example key"],
    *,
    rows: Bool[Tensor, "example query"],
    keys: Bool[Tensor, "example key"],
) -> Float[Tensor, "example head"]:
    """Mean normalised entropy of the rows without the sink keys, the rest of each row scaled up to one (ours).

    0 means that what is not on a sink goes to one key, 1 that it is flat over the keys the row gives any weight.
    Rows that leave next to nothing, or have fewer than two keys left, are left out; NaN where none is left.

    Args:
        maps: attention patterns.
        sinks: True at the keys to leave out.
        rows: True at real query rows.
        keys: True at real keys.

    Example:
        >>> maps = torch.tensor([[[[0.8, 0.1, 0.1]]]])
        >>> every = torch.ones(1, 3, dtype=torch.bool)
        >>> entropy_without(maps, torch.tensor([[True, False, False]]), rows=every[:, :1], keys=every)
        tensor([[1.]])
    """
    means = []
    for example, pattern in enumerate(maps):
        others = pattern[:, rows[example]][:, :, keys[example] & ~sinks[example].to(keys.device)].float()
        rest = others.sum(-1, keepdim=True)
        choices = (others > 0).sum(-1)
        rate = torch.special.entr(others / rest.clamp_min(LEAST)).sum(-1) / choices.clamp_min(2).log()
        known = (rest[..., 0] > LEAST) & (choices >= 2)
        means.append(rate.where(known, torch.nan).nanmean(-1).clamp(max=1.0))
    return torch.stack(means).cpu()


def evenness(
    weights: Float[Tensor, "*lead key"], *, keys: Bool[Tensor, "*lead key"]
) -> Float[Tensor, "*lead"]:
    """Cosine of weights with a flat row over the same keys: their sum over root n times their length.

    1 is flat, 1 / root n one key that takes all; NaN where there is no weight. Its square is the participation ratio
    over n. To leave out a key with most of the weight raises it by arithmetic alone.

    Args:
        weights: no less than 0; they need not sum to one.
        keys: True at the n keys that count.

    Example:
        >>> evenness(torch.tensor([[1.0, 1.0, 7.0], [2.0, 0.0, 7.0]]), keys=torch.tensor([[True, True, False]] * 2))
        tensor([1.0000, 0.7071])
    """
    counted = weights.where(keys, 0.0)
    return counted.sum(-1) / (keys.sum(-1).sqrt() * counted.norm(dim=-1))
