"""The number by which a written token is explained."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Target = Literal["logit", "log_probability", "kl"]


def explained(
    logits: Float[Tensor, "*lead token vocabulary"],
    ids: Int[Tensor, " token"],
    *,
    target: Target = "log_probability",
    reference: Float[Tensor, "token vocabulary"] | None = None,
) -> Float[Tensor, "*lead token"]:
    """One number per written token, higher where the model is surer of it.

    Args:
        logits: of the rows that predict the tokens.
        ids: the tokens.
        target: `"logit"`, `"log_probability"` (nats), or `"kl"`: minus the Kullback-Leibler divergence (nats) of the
            row's distribution from the one in `reference`, 0 where nothing has changed.
        reference: log-probabilities without a change, for `"kl"`.

    Example:
        >>> explained(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([-0.6931])
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if target == "logit":
        return logits.gather(-1, ids.expand(logits.shape[:-1])[..., None])[..., 0]
    logs = logits.log_softmax(-1)
    if target == "kl":
        assert reference is not None
        known = reference.to(logs)
        return (known.exp() * (logs - known).where(known > -torch.inf, 0.0)).sum(-1)
    return logs.gather(-1, ids.expand(logs.shape[:-1])[..., None])[..., 0]
