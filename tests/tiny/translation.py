"""Translation and other text-to-text models: encoder, decoder, cross-attention."""

from __future__ import annotations

from headwise.testing.models import GROUPED_WIDE

from .architecture import ENCODER_DECODER, Architecture
from .inputs import TRANSLATION
from .speech import SEQUENCE

BART = SEQUENCE | {"max_position_embeddings": 64}
T5 = {
    "vocab_size": 128,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
GEMMA = GROUPED_WIDE | {"query_pre_attn_scalar": 8, "sliding_window": 4}
SEAMLESS = {
    "vocab_size": 128,
    "hidden_size": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 4,
    "speech_encoder_intermediate_size": 64,
    "t2u_vocab_size": 64,
    "t2u_encoder_layers": 1,
    "t2u_decoder_layers": 1,
    "t2u_encoder_attention_heads": 4,
    "t2u_decoder_attention_heads": 4,
    "t2u_encoder_ffn_dim": 64,
    "t2u_decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
NLLB_MOE = BART | {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
PEGASUS_X = BART | {"block_size": 8, "num_global_tokens": 2}
LED = BART | {
    "attention_window": 4,
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
}
FSMT = BART | {"langs": ["en", "de"], "src_vocab_size": 128, "tgt_vocab_size": 128}
DECODER_ONLY = {"decoder self": 2, "decoder cross": 2}


def _row(name: str, model: str, settings: dict) -> Architecture:
    return Architecture(name, model, settings, TRANSLATION, ENCODER_DECODER)


ROWS = [
    _row("m2m_100", "M2M100ForConditionalGeneration", BART),
    _row("nllb_moe", "NllbMoeForConditionalGeneration", NLLB_MOE),
    _row("marian", "MarianMTModel", BART),
    _row("mbart", "MBartForConditionalGeneration", BART),
    _row("bart", "BartForConditionalGeneration", BART),
    _row("pegasus", "PegasusForConditionalGeneration", BART),
    _row("blenderbot", "BlenderbotForConditionalGeneration", BART),
    _row("plbart", "PLBartForConditionalGeneration", BART),
    _row("seamless_m4t_v2_text", "SeamlessM4Tv2ForTextToText", SEAMLESS),
    _row("t5", "T5ForConditionalGeneration", T5),
    _row("mt5", "MT5ForConditionalGeneration", T5),
    _row("umt5", "UMT5ForConditionalGeneration", T5),
    _row("switch", "SwitchTransformersForConditionalGeneration", T5 | {"num_experts": 4}),
    Architecture(
        "t5gemma",
        "T5GemmaForConditionalGeneration",
        {"encoder": GEMMA, "decoder": GEMMA, "vocab_size": 128},
        TRANSLATION,
        ENCODER_DECODER,
        attention="eager",  # transformers 5.20 chooses sdpa, and leaves the softcap out
    ),
    Architecture(
        "fsmt", "FSMTForConditionalGeneration", FSMT, TRANSLATION, ENCODER_DECODER, expected="fallback"
    ),
    Architecture(
        "pegasus_x",
        "PegasusXForConditionalGeneration",
        PEGASUS_X,
        TRANSLATION,
        DECODER_ONLY,
        expected="partial",
        unreached=("model.encoder.layers.0.self_attn", "model.encoder.layers.1.self_attn"),
    ),
    Architecture(
        "longt5",
        "LongT5ForConditionalGeneration",
        T5,
        TRANSLATION,
        DECODER_ONLY,
        expected="partial",
        unreached=(
            "encoder.block.0.layer.0.LocalSelfAttention",
            "encoder.block.1.layer.0.LocalSelfAttention",
        ),
    ),
    Architecture(
        "led",
        "LEDForConditionalGeneration",
        LED,
        TRANSLATION,
        DECODER_ONLY,
        expected="partial",
        unreached=(
            "led.encoder.layers.0.self_attn.longformer_self_attn",
            "led.encoder.layers.1.self_attn.longformer_self_attn",
        ),
    ),
]
