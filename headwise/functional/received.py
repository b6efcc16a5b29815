"""Attention that keys receive."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.functional.entropy import LEAST


def mean_received(
    attn: Float[Tensor, "*lead query key"], *, visible: Bool[Tensor, "*#lead query key"]
) -> Float[Tensor, "*lead key"]:
    """Mean attention every key receives from the rows that may see it.

    This is α of Gu et al., "When Attention Sink Emerges in Language Models: An Empirical View".
    1 means that every row puts all its weight there. A flat causal map of 64 tokens gives 0.074 for the first
    key.

    Args:
        attn: attention probabilities.
        visible: True where a real row may see the key.

    Returns:
        One value per key, float32 or wider. A key that no row sees gives NaN.

    Example:
        >>> causal = torch.ones(2, 2, dtype=torch.bool).tril()
        >>> mean_received(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), visible=causal)
        tensor([0.7500, 0.5000])
    """
    p = attn.float() if attn.dtype in (torch.float16, torch.bfloat16) else attn
    return p.where(visible, 0.0).sum(-2) / visible.sum(-2)


def received_without(
    maps: Float[Tensor, "example head query key"],
    sinks: Bool[Tensor, "example key"],
    *,
    rows: Bool[Tensor, "example query"],
    n_queries: Float[Tensor, "example key"],
    min_rows: int = 4,
) -> Float[Tensor, "example key"]:
    """Mean attention a key receives without the sink keys, the rest of each row scaled up to one; mean over heads.

    NaN at the sinks, and at keys that fewer than `min_rows` rows see. A row that leaves next to nothing gives nothing.

    Args:
        maps: attention patterns.
        sinks: True at the keys to leave out.
        rows: True at real query rows.
        n_queries: number of rows that may see each key; NaN at padding.
        min_rows: rows that must see a key.

    Example:
        >>> maps = torch.tensor([0.8, 0.15, 0.05]).expand(1, 1, 4, 3)
        >>> every, n_queries = torch.ones(1, 4, dtype=torch.bool), torch.full((1, 3), 4.0)
        >>> received_without(maps, torch.tensor([[True, False, False]]), rows=every, n_queries=n_queries)
        tensor([[  nan, 0.7500, 0.2500]])
    """
    known = (n_queries >= min_rows) & ~sinks.to(n_queries.device)
    sums = []
    for example, pattern in enumerate(maps):
        real_rows = pattern[:, rows[example]].float()
        others = real_rows.where(~sinks[example].to(real_rows.device) & ~n_queries[example].isnan(), 0.0)
        rest = others.sum(-1, keepdim=True)
        sums.append((others / rest.clamp_min(LEAST)).where(rest > LEAST, 0.0).sum(-2).mean(0))
    return (torch.stack(sums) / n_queries).where(known, torch.nan).cpu()
