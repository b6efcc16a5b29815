"""The streaming statistics, computed in float64 from a pattern that is at hand."""

from __future__ import annotations

import numpy as np
import torch

from headwise.layout import ROLES


def statistics(
    pattern: torch.Tensor,
    *,
    positions: torch.Tensor,
    query_valid: torch.Tensor,
    key_valid: torch.Tensor,
    key_roles: torch.Tensor,
    placed: bool,
) -> dict[str, torch.Tensor]:
    """Every statistic of a `Trace` record but the log-sum-exp, which a pattern does not tell.

    Args:
        pattern: (example, head, query, key), padded keys 0; what padded rows hold does not matter.
        positions: (query,) absolute positions of the rows.
        query_valid: (example, query) False on padded rows.
        key_valid: (example, key) False on padded keys.
        key_roles: (example, key) indices into `ROLES`.
        placed: False where rows and keys do not share one row of places (cross-attention, a coarser grid of
            keys), so that distance has no meaning.
    """
    rows = query_valid.numpy()
    keys = key_valid.numpy()
    p = np.where(rows[:, None, :, None] & keys[:, None, None], pattern.double().numpy(), 0.0)
    seen_by = (p > 0).any(1)
    roles = np.eye(len(ROLES))[key_roles.long().numpy()]
    apart = np.abs(positions.numpy()[:, None] - np.arange(p.shape[-1]))
    log = np.log(p, out=np.zeros_like(p), where=p > 0)
    head_rows, head_keys = rows[:, None], keys[:, None]
    numbers = {
        "entropy": _real(-(p * log).sum(-1), head_rows),
        "maximum": _real(p.max(-1), head_rows),
        "distance": _real((p * apart).sum(-1), head_rows & placed),
        "n_keys": _real(seen_by.sum(-1), rows),
        "mass": _real(np.einsum("bhqk,bkr->bhqr", p, roles), head_rows[..., None]),
        "received": _real(p.sum(-2), head_keys),
        "n_queries": _real(seen_by.sum(-2), keys),
    }
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in numbers.items()}


def details(
    pattern: torch.Tensor,
    *,
    positions: torch.Tensor,
    query_valid: torch.Tensor,
    key_valid: torch.Tensor,
    near: int,
    top: tuple[int, ...],
    later: tuple[int, int],
) -> dict[str, torch.Tensor]:
    """`near`, `top` and `later` of self-attention, row by row and key by key; arguments as above."""
    p = np.where(
        query_valid.numpy()[:, None, :, None] & key_valid.numpy()[:, None, None],
        pattern.double().numpy(),
        0.0,
    )
    batch, heads, _, keys = p.shape
    numbers = {
        "near": np.zeros((*p.shape[:3], near)),
        "top": np.sort(p)[..., ::-1].cumsum(-1)[..., [min(size, keys) - 1 for size in top]],
        "later": np.zeros((batch, heads, keys)),
    }
    for row, position in enumerate(positions.tolist()):
        for key in range(keys):
            apart = position - key
            if 0 <= apart < near:
                numbers["near"][:, :, row, apart] = p[:, :, row, key]
            if later[0] <= apart <= later[1]:
                numbers["later"][:, :, key] += p[:, :, row, key]
    rows = query_valid.numpy()[:, None, :, None]
    numbers = {
        "near": _real(numbers["near"], rows),
        "top": _real(numbers["top"], rows),
        "later": _real(numbers["later"], key_valid.numpy()[:, None]),
    }
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in numbers.items()}


def _real(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.where(real, values, np.nan)
