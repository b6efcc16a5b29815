"""What kind of key a head looks at, and whether what it writes is what it read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mass_on(
    pattern: Float[Tensor, "*lead query key"], target: Bool[Tensor, "query key"]
) -> Float[Tensor, "*lead"]:
    """Mean attention on target keys, over the rows that have such a key.

    0 to 1; 1 is a head that looks at nothing else. NaN where no row has a target.

    Args:
        pattern: attention probabilities; rows sum to one over visible keys.
        target: True where a key is one that the row is to look at.

    Example:
        >>> pattern = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [0.1, 0.8, 0.1]])
        >>> mass_on(pattern, torch.ones(3, 3, dtype=torch.bool).tril(-1).triu(-1))  # the token before: rows 1 and 2
        tensor(0.6000)
    """
    rows = target.any(-1)
    chosen = pattern[..., rows, :] if pattern.dtype == torch.float64 else pattern[..., rows, :].float()
    return chosen.where(target[rows], 0.0).sum(-1).mean(-1)


def copying_score(circuit: Float[Tensor, "*lead width width"]) -> Float[Tensor, "*lead"]:
    """Sum of the real parts of the eigenvalues over the sum of their moduli.

    -1 to 1: 1 writes what was read, -1 suppresses it, about 0 does neither; NaN for a head that writes nothing. The
    eigenvalues of W_O W_U W_E W_V, of the size of a head, are those of the map from tokens to logits W_E W_V W_O W_U
    that are not 0. Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".

    Args:
        circuit: W_O W_U W_E W_V of every head, rows and columns of the head's width.

    Example:
        >>> copying_score(torch.stack([torch.eye(3), -torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, 0.0]))]))
        tensor([ 1., -1.,  0.])
    """
    values = torch.linalg.eigvals(circuit.double())
    return (values.real.sum(-1) / values.abs().sum(-1)).float()


def rank_of(
    logits: Float[Tensor, "*lead token word"], words: Int[Tensor, " token"]
) -> Int[Tensor, "*lead token"]:
    """How many other words have no smaller logit than the one that is asked for, token by token; 0 is the first.

    Where all are the same, as for a head that writes nothing, every word is the last.

    Example:
        >>> rank_of(torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), torch.tensor([1, 1]))
        tensor([0, 2])
    """
    own = logits.gather(-1, words.expand(logits.shape[:-1])[..., None])
    return (logits >= own).sum(-1) - 1
