"""A prior for short trainings: heads that start out looking one token back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def seed_previous_token(
    layers: Sequence[nn.Module] | nn.ModuleList,
    *,
    rotary_base: float,
    heads: Sequence[tuple[int, int]] = ((0, 0), (0, 1)),
    two_back: Sequence[tuple[int, int]] = (),
    strength: float = 2.5,
    std: float = 0.2,
    seed: int = 1,
) -> None:
    """Set the query and key biases so that the score of `heads` peaks one token back, whatever the tokens.

    A Llama-class model learns such a content-free pattern slowly; everything else in its circuits waits for
    it. Only initial values are set: all of them train afterwards. The score that the biases alone give at a
    distance of d tokens is `strength**2 * sum_i cos(w_i * (d - 1)) / sqrt(head_dim)`, `w_i` the rotary
    frequencies, and is largest at d = 1. All other query and key biases become normal with `std`.

    Args:
        layers: decoder layers of a Llama-class model with attention biases, first to last.
        rotary_base: the model's `rope_theta`.
        heads: (layer, query head) pairs; with grouped heads the shared key bias is set once for its group.
        two_back: heads whose score is to peak at d = 2 instead.
        strength: size of the biases; the scores grow with its square.
        std: standard deviation of the other query and key biases.
        seed: of the random biases.

    Raises:
        ValueError: the attention layers have no biases.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number, layer in enumerate(layers):
            attention: Any = layer.self_attn
            size = attention.head_dim
            query, key = _bias(attention.q_proj, size), _bias(attention.k_proj, size)
            for bias in (query, key):
                bias.copy_(torch.randn(bias.shape, generator=generator) * std)
            turns = rotary_base ** (-torch.arange(0, size, 2) / size)
            group = len(query) // len(key)
            steps = [(head, 1) for where, head in heads if where == number]
            steps += [(head, 2) for where, head in two_back if where == number]
            for head, back in steps:
                query[head] = strength * torch.cat([(back * turns).cos(), -(back * turns).sin()])
                key[head // group] = strength * torch.cat([torch.ones_like(turns), torch.zeros_like(turns)])


def _bias(projection: nn.Linear, size: int) -> Tensor:
    """The bias as one row per head, sharing memory with the parameter."""
    if projection.bias is None:
        raise ValueError("the attention layers need biases: set attention_bias=True")
    return projection.bias.view(-1, size)
