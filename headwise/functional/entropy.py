"""How widely rows spread their attention."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST = 1e-6
"""Rows that leave less than this to keys that are no sinks say nothing about them."""
FEW = 1e-4
"""The same where only sums of the row are known, in float32."""


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


def entropy_over(
    attn: Float[Tensor, "*lead query key"], keys: Bool[Tensor, "*#lead key"]
) -> tuple[Float[Tensor, "*lead query"], Float[Tensor, "*lead query"]]:
    """Row entropy over some of the keys, their weights scaled up to one, in nats; and how many of them have weight.

    NaN where these keys have next to nothing of the row.

    Args:
        attn: attention probabilities.
        keys: True at the keys that count.

    Example:
        >>> entropy_over(torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([False, True, True]))
        (tensor([0.6931]), tensor([2.]))
    """
    p = attn.float() if attn.dtype in (torch.float16, torch.bfloat16) else attn
    p = p.where(keys.unsqueeze(-2), 0.0)
    rest = p.sum(-1, keepdim=True)
    entropy = torch.special.entr(p / rest.where(rest > LEAST, torch.nan)).sum(-1)
    return entropy, (p > 0).sum(-1).to(entropy.dtype)


def entropy_of_rest(
    entropy: Float[Tensor, "*row"],
    left_out: Float[Tensor, "*row key"],
    total: Float[Tensor, "*row"] | float = 1.0,
) -> Float[Tensor, "*row"]:
    """Row entropy over all keys but some, the rest scaled up to one, from the entropy of the whole row (ours).

    With H of the whole row, weights p on the keys S that are left out and r = total - sum of p what the others hold,
    the others have (H + sum over S of p ln p) / r + ln r. No pattern is needed. NaN where r is below `FEW`: the sums
    of a capture are float32, and leave no digits there.

    Args:
        entropy: of the whole row, in nats.
        left_out: weights on the keys that are left out.
        total: sum of the row; below 1 where a sink logit takes weight.

    Example:
        >>> row = torch.tensor([0.8, 0.1, 0.1])
        >>> entropy_of_rest(torch.special.entr(row).sum(), row[:1])
        tensor(0.6931)
    """
    rest = total - left_out.sum(-1)
    rest = rest.where(rest > FEW, torch.nan)
    return ((entropy - torch.special.entr(left_out).sum(-1)) / rest + rest.log()).clamp_min(0.0)


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
        entropy, choices = entropy_over(
            pattern[:, rows[example]], keys[example] & ~sinks[example].to(keys.device)
        )
        rate = entropy / choices.where(choices >= 2, torch.nan).log()
        means.append(rate.nanmean(-1).clamp(max=1.0))
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
