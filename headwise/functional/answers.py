"""How far a right answer is ahead of a wrong one."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def logit_difference(
    logits: Float[Tensor, "example word"], right: Int[Tensor, " example"], wrong: Int[Tensor, " example"]
) -> Float[Tensor, " example"]:
    """Logit of the right token minus that of the wrong one; above 0 the right one is preferred.

    It equals the difference of their log-probabilities, in nats.

    Args:
        logits: of the row that writes the answer.
        right: token ids.
        wrong: token ids.

    Example:
        >>> import torch
        >>> logit_difference(torch.tensor([[0.5, 2.0, 0.0]]), torch.tensor([1]), torch.tensor([0]))
        tensor([1.5000])
    """
    ahead = logits.gather(-1, right[:, None]) - logits.gather(-1, wrong[:, None])
    return ahead[:, 0].float()


def log_probability(
    logits: Float[Tensor, "example word"], right: Int[Tensor, " example"], wrong: Int[Tensor, " example"]
) -> Float[Tensor, " example"]:
    """Log-probability of the right token, in nats; `wrong` plays no part.

    Example:
        >>> import torch
        >>> log_probability(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0]))
        tensor([-0.6931])
    """
    return logits.float().log_softmax(-1).gather(-1, right[:, None])[:, 0]
