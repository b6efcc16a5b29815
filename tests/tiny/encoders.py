"""Text encoders, and a text decoder that attends to another sequence."""

from __future__ import annotations

from headwise.testing.inputs import Inputs, random_normal
from headwise.testing.models import BERT

from .architecture import Architecture
from .inputs import TOKENS, padded_tokens, plain_tokens

SQUEEZEBERT = BERT | {"embedding_size": 32}
DEBERTA = BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
DISTILBERT = {
    "vocab_size": 128,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
}
MODERNBERT = BERT | {
    "global_attn_every_n_layers": 2,
    "local_attention": 4,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
XLNET = {"vocab_size": 128, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
LONGFORMER = BERT | {"attention_window": 4, "max_position_embeddings": 80}
PERCEIVER = {
    "num_latents": 4,
    "d_latents": 16,
    "d_model": 16,
    "num_blocks": 1,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2,
}


def _with_encoder_states(inputs: Inputs) -> Inputs:
    return inputs | {"encoder_hidden_states": random_normal(2, 5, 32, seed=3)}


CROSS = {
    "plain": lambda: _with_encoder_states(plain_tokens()),
    "padded": lambda: _with_encoder_states(padded_tokens()),
}

ROWS = [
    Architecture("bert", "BertModel", BERT, TOKENS),
    Architecture("roberta", "RobertaModel", BERT, TOKENS),
    Architecture("xlm_roberta", "XLMRobertaModel", BERT, TOKENS),
    Architecture("electra", "ElectraModel", BERT, TOKENS),
    Architecture("albert", "AlbertModel", BERT, TOKENS),
    Architecture("camembert", "CamembertModel", BERT, TOKENS),
    Architecture("distilbert", "DistilBertModel", DISTILBERT, TOKENS),
    Architecture("modernbert", "ModernBertModel", MODERNBERT, TOKENS),
    Architecture(
        "bert_decoder_cross",
        "BertLMHeadModel",
        BERT | {"is_decoder": True, "add_cross_attention": True},
        CROSS,
        {"text self": 2, "text cross": 2},
    ),
    Architecture("deberta", "DebertaModel", DEBERTA, TOKENS, expected="fallback"),
    Architecture("deberta_v2", "DebertaV2Model", DEBERTA, TOKENS, expected="fallback"),
    Architecture("mpnet", "MPNetModel", BERT, TOKENS, expected="fallback"),
    Architecture("ibert", "IBertModel", BERT, TOKENS, expected="fallback"),
    Architecture("squeezebert", "SqueezeBertModel", SQUEEZEBERT, TOKENS, expected="fallback"),
    Architecture("xlnet", "XLNetModel", XLNET, TOKENS, expected="fallback"),
    Architecture(
        "perceiver",
        "PerceiverModel",
        PERCEIVER,
        {"plain": lambda: {"inputs": random_normal(2, 6, 16)}},
        {"text self": 2, "text cross": 1},
        expected="fallback",
    ),
    Architecture("longformer", "LongformerModel", LONGFORMER, TOKENS, expected="refused"),
]
