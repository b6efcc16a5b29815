"""Language models that predict the next token."""

from __future__ import annotations

from headwise.testing.models import GPT, GROUPED, GROUPED_WIDE, SIZE

from .architecture import Architecture, route_of
from .inputs import TOKENS, plain_tokens

SLIDING_THEN_FULL = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = SIZE | {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
SPARSE = DEEPSEEK | {"n_group": 1, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 16}
QWEN3_NEXT = (
    GROUPED_WIDE
    | EXPERTS
    | {
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
)
JAMBA = GROUPED | {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "num_experts": 2,
    "mamba_d_state": 4,
    "mamba_d_conv": 2,
}
LLAMA4 = GROUPED_WIDE | {
    "intermediate_size_mlp": 64,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 8,
}
GPT_OSS = (
    GROUPED_WIDE
    | SLIDING_THEN_FULL
    | {"num_local_experts": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
)
OPT = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
}
GPT_NEO = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vocab_size": 128,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 64,
}
MPT = {"vocab_size": 128, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
XGLM = {
    "vocab_size": 128,
    "d_model": 32,
    "num_layers": 2,
    "attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 64,
}
BLOOM = {"vocab_size": 128, "hidden_size": 32, "n_layer": 2, "n_head": 4}
FALCON = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MAMBA = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
ONE = {"text self": 1}

INTERFACE = [
    Architecture("gpt2", "GPT2LMHeadModel", GPT, TOKENS),
    Architecture("gpt_neox", "GPTNeoXForCausalLM", SIZE, TOKENS),
    Architecture("llama", "LlamaForCausalLM", GROUPED, TOKENS),
    Architecture("mistral", "MistralForCausalLM", GROUPED | {"sliding_window": 4}, TOKENS),
    Architecture("qwen2", "Qwen2ForCausalLM", GROUPED, TOKENS),
    Architecture("qwen3", "Qwen3ForCausalLM", GROUPED_WIDE, TOKENS),
    Architecture("gemma", "GemmaForCausalLM", GROUPED_WIDE, TOKENS),
    Architecture(
        "gemma2",
        "Gemma2ForCausalLM",
        GROUPED_WIDE | {"sliding_window": 4, "query_pre_attn_scalar": 8},
        TOKENS,
        attention="eager",  # transformers 5.20 chooses sdpa, and leaves the softcap out
    ),
    Architecture(
        "gemma3_text",
        "Gemma3ForCausalLM",
        GROUPED_WIDE | SLIDING_THEN_FULL | {"query_pre_attn_scalar": 8},
        TOKENS,
    ),
    Architecture("phi", "PhiForCausalLM", GROUPED, TOKENS),
    Architecture("phi3", "Phi3ForCausalLM", GROUPED, TOKENS),
    Architecture("olmo2", "Olmo2ForCausalLM", GROUPED, TOKENS),
    Architecture("mixtral", "MixtralForCausalLM", GROUPED | {"num_local_experts": 4}, TOKENS),
    Architecture("gpt_oss", "GptOssForCausalLM", GPT_OSS, TOKENS),
    Architecture(
        "qwen3_moe", "Qwen3MoeForCausalLM", GROUPED_WIDE | EXPERTS | {"moe_intermediate_size": 16}, TOKENS
    ),
    Architecture("olmoe", "OlmoeForCausalLM", GROUPED | EXPERTS, TOKENS),
    Architecture("granite", "GraniteForCausalLM", GROUPED, TOKENS),
    Architecture("cohere", "CohereForCausalLM", GROUPED, TOKENS),
    Architecture("starcoder2", "Starcoder2ForCausalLM", GROUPED, TOKENS),
    Architecture("stablelm", "StableLmForCausalLM", GROUPED, TOKENS),
    Architecture("glm4", "Glm4ForCausalLM", GROUPED_WIDE, TOKENS),
    Architecture("smollm3", "SmolLM3ForCausalLM", GROUPED, TOKENS),
    Architecture("llama4_text", "Llama4ForCausalLM", LLAMA4, TOKENS),
    Architecture("deepseek_v3", "DeepseekV3ForCausalLM", DEEPSEEK, TOKENS),
    Architecture("deepseek_v32", "DeepseekV32ForCausalLM", SPARSE, TOKENS),
    Architecture("glm_moe_dsa", "GlmMoeDsaForCausalLM", SPARSE, TOKENS),
    Architecture("diffllama", "DiffLlamaForCausalLM", GROUPED, TOKENS, {"text self": 4}),
    Architecture("bitnet", "BitNetForCausalLM", GROUPED, TOKENS),
    Architecture("qwen3_next", "Qwen3NextForCausalLM", QWEN3_NEXT, TOKENS, ONE),
    Architecture("jamba", "JambaForCausalLM", JAMBA, TOKENS, ONE),
    Architecture(
        "modernbert_decoder",
        "ModernBertDecoderForCausalLM",
        SIZE | {"cls_token_id": 1, "sep_token_id": 2},
        TOKENS,
    ),
    Architecture("opt", "OPTForCausalLM", OPT, TOKENS),
    Architecture("biogpt", "BioGptForCausalLM", SIZE, TOKENS),
]

OUTSIDE = [
    Architecture("gpt_neo", "GPTNeoForCausalLM", GPT_NEO, TOKENS, expected="fallback"),
    Architecture("gptj", "GPTJForCausalLM", GPT | {"rotary_dim": 4}, TOKENS, expected=route_of("gptj")),
    Architecture(
        "codegen", "CodeGenForCausalLM", GPT | {"rotary_dim": 4}, TOKENS, expected=route_of("codegen")
    ),
    Architecture("bloom", "BloomForCausalLM", BLOOM, TOKENS, expected="fallback"),
    Architecture("mpt", "MptForCausalLM", MPT, TOKENS, expected="fallback"),
    Architecture("falcon", "FalconForCausalLM", FALCON, TOKENS, expected="fallback", attention="eager"),
    Architecture("xglm", "XGLMForCausalLM", XGLM, TOKENS, expected="fallback"),
    Architecture("imagegpt", "ImageGPTModel", GPT, {"plain": plain_tokens}, expected="fallback"),
    Architecture(
        "minimax",
        "MiniMaxForCausalLM",
        GROUPED_WIDE | {"num_local_experts": 4},
        TOKENS,
        ONE,
        expected="partial",
        unreached=("model.layers.1.self_attn",),
    ),
    Architecture("mamba", "MambaForCausalLM", MAMBA, {"plain": plain_tokens}, {}, expected="none"),
]

ROWS = INTERFACE + OUTSIDE
