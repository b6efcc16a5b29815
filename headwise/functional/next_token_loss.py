"""How badly the next token was predicted."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def next_token_loss(
    logits: Float[Tensor, "example position word"],
    ids: Int[Tensor, "example position"],
    counted: Bool[Tensor, "example position"],
) -> Float[Tensor, " example"]:
    """Mean negative log-probability of the counted tokens, in nats per token; NaN where none is counted.

    Args:
        logits: row t predicts the token at t + 1.
        ids: token ids.
        counted: True where a token is to be predicted; the first has nothing before it and never counts.

    Example:
        >>> next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool))
        tensor([1.3863])
    """
    costs = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none"
    )
    chosen = counted[:, 1:]
    return costs.where(chosen, 0.0).sum(1) / chosen.sum(1)
