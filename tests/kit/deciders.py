"""A decoder of one head, written by hand, whose answer rests on one position, whether attention shows it or not.

Tokens are embedded as one-hot vectors u in pairs (u, -u)/√2, so that LayerNorm is a known factor. The value of the
token `DECISIVE` alone is not zero: it is the answer. The last row looks at that token (`shown=True`), or at every
token alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TOKENS = 8
DECISIVE, ANSWER = 5, 3
PROMPT = [0, 2, DECISIVE, 4, 6, 7]
"""A prompt whose decisive token stands at `PLACE`."""
PLACE = 2


def decider(*, shown: bool) -> GPT2LMHeadModel:
    """The model, in evaluation mode."""
    from transformers import GPT2Config, GPT2LMHeadModel

    width = 4 * TOKENS  # a token, what attention writes, and both again with the other sign
    config = GPT2Config(
        vocab_size=TOKENS,
        n_positions=16,
        n_embd=width,
        n_layer=1,
        n_head=1,
        n_inner=4,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        layer_norm_epsilon=1e-12,
    )
    model: Any = GPT2LMHeadModel(config).eval()
    spread = torch.cat([torch.eye(2 * TOKENS), -torch.eye(2 * TOKENS)], 1) / math.sqrt(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        model.transformer.wte.weight.copy_(spread[:TOKENS])
        attention, norm = model.transformer.h[0].attn, math.sqrt(1 / width)
        if shown:
            attention.c_attn.bias[0] = 20 * width**0.5
            attention.c_attn.weight[:, width] = spread[DECISIVE] * norm
        attention.c_attn.weight[:, 2 * width] = spread[DECISIVE] * norm
        attention.c_proj.weight[0] = spread[TOKENS + ANSWER]
        model.lm_head.weight.copy_(spread[TOKENS:] * 4)
    return cast("GPT2LMHeadModel", model)
