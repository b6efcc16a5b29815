"""Materialised attention, operation for operation what the models' own eager attention does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.probes.kernels.call import Call


def pattern(call: Call) -> tuple[Float[Tensor, "batch head query key"], Float[Tensor, "batch head query"]]:
    """Attention probabilities, and the log-sum-exp of every row's scores (sink logits included).

    Bit-equal in float32 to the eager attention of the transformers models on every row that sees a key. The
    softmax runs in float32 and is cast to the query's dtype, as there. Rows that see nothing come out uniform.
    """
    scores = torch.matmul(call.query, repeat_heads(call.key, call.groups).transpose(2, 3)) * call.scaling
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if call.bias is not None:
        scores = scores + call.bias
    scores = apply_mask(scores, call)
    if call.sinks is None:
        wide = torch.promote_types(scores.dtype, torch.float32)
        p = torch.softmax(scores, dim=-1, dtype=wide).to(call.query.dtype)
        return p, torch.logsumexp(scores.detach().to(wide), dim=-1)
    extra = call.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    scores = torch.cat([scores, extra], dim=-1)
    lse = torch.logsumexp(scores.detach().float(), dim=-1)
    scores = scores - scores.max(dim=-1, keepdim=True).values
    return torch.softmax(scores, dim=-1, dtype=scores.dtype)[..., :-1], lse


def apply_pattern(
    probabilities: Float[Tensor, "batch head query key"], call: Call, *, training: bool = False
) -> Float[Tensor, "batch query head value_width"]:
    """Per-head outputs z of a pattern on the call's values, in the layout the models expect."""
    weights = torch.nn.functional.dropout(probabilities, p=call.dropout, training=training)
    z = torch.matmul(weights.to(call.value.dtype), repeat_heads(call.value, call.groups))
    return z.transpose(1, 2).contiguous()


def decode_row(
    call: Call, *, lse: bool
) -> tuple[Float[Tensor, "batch head 1 key"], Float[Tensor, "batch head 1"] | None]:
    """`pattern` for a single query row, without repeating grouped keys; the log-sum-exp where it is asked for."""
    batch, heads, _, keys = call.shape
    query = call.query.reshape(-1, call.groups, call.query.shape[-1])
    key = call.key.reshape(-1, keys, call.key.shape[-1]).transpose(1, 2)
    scores = torch.baddbmm(query.new_empty(1), query, key, beta=0, alpha=call.scaling)
    scores = scores.view(batch, heads, 1, keys)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if call.bias is not None:
        scores = scores + call.bias
    scores = apply_mask(scores, call)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if call.sinks is not None:
        total = torch.logaddexp(torch.logsumexp(scores, dim=-1), call.sinks.to(scores.dtype).view(1, -1, 1))
        return torch.exp(scores - total[..., None]).to(call.query.dtype), total
    p = torch.softmax(scores, dim=-1)
    total = scores.amax(-1) - p.amax(-1).log() if lse else None
    return p.to(call.query.dtype), total


def apply_row(
    probabilities: Float[Tensor, "batch head 1 key"], call: Call
) -> Float[Tensor, "batch 1 head value_width"]:
    """`apply_pattern` for a single query row, without repeating grouped values."""
    batch, heads, _, keys = call.shape
    weights = probabilities.to(call.value.dtype).reshape(-1, call.groups, keys)
    value = call.value.reshape(-1, keys, call.value.shape[-1])
    return torch.bmm(weights, value).view(batch, 1, heads, -1)


def apply_mask(scores: Tensor, call: Call) -> Tensor:
    """Scores with hidden keys at the lowest finite value of their dtype."""
    if call.mask is None and not call.causal:
        return scores
    lowest = torch.finfo(scores.dtype).min
    if call.causal:
        rows = scores.shape[-2]
        future = torch.ones(rows, rows, dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(future, lowest)
    assert call.mask is not None
    if call.mask.dtype == torch.bool:
        return scores.masked_fill(~call.mask, lowest)
    return scores + call.mask


def repeat_heads(
    tensor: Float[Tensor, "batch kv_head key width"], groups: int
) -> Float[Tensor, "batch head key width"]:
    """One copy of a key or value head for every query head that reads it."""
    return tensor if groups == 1 else tensor.repeat_interleave(groups, dim=1)
