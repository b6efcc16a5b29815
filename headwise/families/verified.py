"""The families whose attention headwise's own tests compare with each model's eager attention, site by site."""

from __future__ import annotations

_NAMES = """
    albert audio-spectrogram-transformer bart beit bert biogpt bitnet blenderbot blip blip-2 bloom
    camembert chinese_clip clap clip clip_vision_model codegen cohere data2vec-audio deberta
    deberta-v2 deepseek_v3 deepseek_v32 deit diffllama dinov2 dinov2_with_registers dinov3_vit
    distilbert electra falcon fsmt gemma gemma2 gemma3 gemma3_text git glm4 glm_moe_dsa gpt2 gpt_neo
    gpt_neox gpt_oss gptj granite hubert ibert idefics3 ijepa imagegpt instructblip jamba kosmos-2.5
    led llama llama4_text llava llava_next longt5 m2m_100 marian mbart minimax mistral mixtral
    mllama modernbert modernbert-decoder moonshine mpnet mpt mt5 nllb-moe olmo2 olmoe opt owlvit
    paligemma pegasus pegasus_x perceiver phi phi3 plbart qwen2 qwen2_5_vl qwen2_vl qwen3 qwen3_moe
    qwen3_next qwen3_vl roberta seamless_m4t_v2 segformer siglip siglip_vision_model smollm3 smolvlm
    speech_to_text squeezebert stablelm starcoder2 swin switch_transformers t5 t5gemma umt5 vit
    vit_mae vitdet wav2vec2 wav2vec2-conformer whisper xglm xlm-roberta xlnet
"""
VERIFIED = frozenset(_NAMES.split())
"""By `config.model_type`; a test keeps the list equal to what is tested."""


def doubt(model_type: str) -> str | None:
    """What to say about a family that the tests do not know; None for one that they do.

    Example:
        >>> doubt("llama") is None
        True
        >>> doubt("my_model")
        'The family my_model is not among those that headwise tests against eager attention: run headwise doctor on it.'
    """
    if model_type in VERIFIED:
        return None
    return (
        f"The family {model_type or 'of this model'} is not among those that headwise tests against eager attention: "
        "run headwise doctor on it."
    )
