"""Language models that look at pictures."""

from __future__ import annotations

import torch

from headwise.testing.inputs import PADDED, Inputs, random_ids, random_normal
from headwise.testing.models import BERT, GROUPED, GROUPED_WIDE, IMAGE_TOKEN, LLAVA, VIT

from .architecture import TEXT_AND_VISION, Architecture
from .decoders import OPT, SLIDING_THEN_FULL
from .inputs import image_prompts, prompt_ids

KOSMOS2_5 = {
    "text_config": {"vocab_size": 128, "embed_dim": 32, "layers": 2, "ffn_dim": 64, "attention_heads": 4},
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "d_kv": 8,
        "patch_embed_hidden_size": 48,
    },
    "latent_query_num": 4,
}
CLAP = {
    "text_config": BERT,
    "audio_config": {
        "window_size": 2,
        "num_mel_bins": 16,
        "spec_size": 64,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "hidden_size": 32,
        "depths": [1, 1],
        "num_attention_heads": [2, 4],
        "patch_embeds_hidden_size": 16,
        "projection_dim": 16,
    },
    "projection_dim": 16,
}
LLAMA_TEXT = GROUPED | {"model_type": "llama"}
CLIP_TOWER = VIT | {"model_type": "clip_vision_model", "projection_dim": 32}
PALIGEMMA = {
    "text_config": GROUPED_WIDE | {"model_type": "gemma"},
    "vision_config": VIT | {"model_type": "siglip_vision_model", "projection_dim": 32},
    "image_token_id": IMAGE_TOKEN,
    "projection_dim": 32,
}
GEMMA3 = {
    "text_config": GROUPED_WIDE | SLIDING_THEN_FULL | {"query_pre_attn_scalar": 8},
    "vision_config": VIT | {"model_type": "siglip_vision_model"},
    "image_token_id": IMAGE_TOKEN,
    "mm_tokens_per_image": 4,
}
SECTIONED_ROPE = {
    "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
}
QWEN_TOKENS = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": 101,
    "vision_start_token_id": 102,
    "vision_end_token_id": 103,
}
QWEN_TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 4,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
QWEN2_VL = QWEN_TOKENS | {
    "text_config": GROUPED | SECTIONED_ROPE,
    "vision_config": QWEN_TOWER | {"embed_dim": 32, "mlp_ratio": 2},
}
QWEN2_5_VL = QWEN_TOKENS | {
    "text_config": GROUPED | SECTIONED_ROPE,
    "vision_config": QWEN_TOWER
    | {"intermediate_size": 64, "out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1]},
}
QWEN3_VL = QWEN_TOKENS | {
    "text_config": GROUPED_WIDE | SECTIONED_ROPE,
    "vision_config": QWEN_TOWER
    | {
        "intermediate_size": 64,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    },
}
IDEFICS3 = {
    "text_config": LLAMA_TEXT,
    "vision_config": VIT,
    "image_token_id": IMAGE_TOKEN,
    "scale_factor": 2,
}
QFORMER = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "cross_attention_frequency": 2,
    "encoder_hidden_size": 32,
    "max_position_embeddings": 64,
}
BLIP2 = {
    "vision_config": VIT,
    "qformer_config": QFORMER,
    "text_config": OPT | {"model_type": "opt"},
    "num_query_tokens": 4,
    "image_token_index": IMAGE_TOKEN,
    "image_token_id": IMAGE_TOKEN,
}
BLIP2_SITES = TEXT_AND_VISION | {"qformer self": 2, "qformer cross": 1}
MLLAMA = {
    "text_config": GROUPED
    | {
        "cross_attention_layers": [1],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 4,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
        "max_num_tiles": 1,
        "vision_output_dim": 64,
        "intermediate_layers_indices": [0],
        "supported_aspect_ratios": [[1, 1]],
    },
    "image_token_index": IMAGE_TOKEN,
}
BLIP = {
    "text_config": {
        "vocab_size": 128,
        "hidden_size": 32,
        "encoder_hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "sep_token_id": 2,
        "pad_token_id": 0,
    },
    "vision_config": VIT,
    "projection_dim": 32,
}


def _two_crops(inputs: Inputs) -> Inputs:
    return {"pixel_values": random_normal(1, 2, 3, 32, 32), "image_sizes": torch.tensor([[32, 32]])}


def _image_first(inputs: Inputs) -> Inputs:
    return {"token_type_ids": torch.zeros_like(inputs["input_ids"])}


def _image_types(inputs: Inputs) -> Inputs:
    return {"token_type_ids": (inputs["input_ids"] == IMAGE_TOKEN).long()}


def _qwen_patches(inputs: Inputs) -> Inputs:
    return {
        "pixel_values": random_normal(16, 3 * 2 * 8 * 8),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
        "mm_token_type_ids": (inputs["input_ids"] == IMAGE_TOKEN).int(),
    }


def _one_tile(inputs: Inputs) -> Inputs:
    return {"pixel_values": inputs["pixel_values"][:, None]}


def _instruction(inputs: Inputs) -> Inputs:
    return {"qformer_input_ids": random_ids(1, 5)}


def _mllama(padding: int) -> Inputs:
    inputs = prompt_ids(0, padding=padding)
    return inputs | {
        "pixel_values": random_normal(1, 1, 1, 3, 32, 32),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
        "cross_attention_mask": torch.ones(1, inputs["input_ids"].shape[1], 1, 1, dtype=torch.long),
    }


def _patches(padding: int) -> Inputs:
    """One prompt of Kosmos-2.5, whose padding is id 1 and whose texts begin with id 0, and one page in patches."""
    grid = torch.arange(1.0, 17)[None, :, None]
    before, start = torch.ones(1, padding, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)
    ids = torch.cat([before, start, random_ids(1, 9)], dim=1)
    mask, held = torch.ones_like(ids), torch.zeros_like(ids)
    mask[:, :padding] = 0
    held[:, padding + 1 : padding + 5] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "image_embeds_position_mask": held,
        "flattened_patches": torch.cat([grid, grid, random_normal(1, 16, 48)], -1),
    }


def _sounds() -> Inputs:
    return {"input_ids": random_ids(2, 8), "input_features": random_normal(2, 1, 64, 16)}


ROWS = [
    Architecture("llava", "LlavaForConditionalGeneration", LLAVA, image_prompts(16), TEXT_AND_VISION),
    Architecture(
        "llava_next",
        "LlavaNextForConditionalGeneration",
        LLAVA | {"image_grid_pinpoints": [[32, 32]]},
        image_prompts(16 + 20, _two_crops),
        TEXT_AND_VISION,
    ),
    Architecture(
        "paligemma",
        "PaliGemmaForConditionalGeneration",
        PALIGEMMA,
        image_prompts(16, _image_first),
        TEXT_AND_VISION,
        expected="partial",
        unreached=("model.vision_tower.head.attention",),
    ),
    Architecture(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        GEMMA3,
        image_prompts(4, _image_types),
        TEXT_AND_VISION,
        expected="partial",
        unreached=("model.vision_tower.head.attention",),
    ),
    Architecture(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        QWEN2_VL,
        image_prompts(4, _qwen_patches),
        TEXT_AND_VISION,
    ),
    Architecture(
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        QWEN2_5_VL,
        image_prompts(4, _qwen_patches),
        TEXT_AND_VISION,
    ),
    Architecture(
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        QWEN3_VL,
        image_prompts(4, _qwen_patches),
        TEXT_AND_VISION,
    ),
    Architecture(
        "idefics3",
        "Idefics3ForConditionalGeneration",
        IDEFICS3,
        image_prompts(4, _one_tile),
        TEXT_AND_VISION,
    ),
    Architecture(
        "smolvlm", "SmolVLMForConditionalGeneration", IDEFICS3, image_prompts(4, _one_tile), TEXT_AND_VISION
    ),
    Architecture("blip2", "Blip2ForConditionalGeneration", BLIP2, image_prompts(4), BLIP2_SITES),
    Architecture(
        "instructblip",
        "InstructBlipForConditionalGeneration",
        BLIP2,
        image_prompts(4, _instruction),
        BLIP2_SITES,
    ),
    Architecture(
        "mllama",
        "MllamaForConditionalGeneration",
        MLLAMA,
        {"plain": lambda: _mllama(0), "padded": lambda: _mllama(3)},
        {"text self": 1, "text cross": 1, "vision self": 3},
    ),
    Architecture(
        "git",
        "GitForCausalLM",
        BERT | {"vision_config": VIT, "num_image_with_embedding": None},
        image_prompts(0),
        TEXT_AND_VISION,
        expected="fallback",
    ),
    Architecture(
        "blip",
        "BlipForConditionalGeneration",
        BLIP,
        image_prompts(0),
        {"vision self": 2, "text self": 2, "text cross": 2},
        expected="fallback",
    ),
    Architecture(
        "kosmos2_5",
        "Kosmos2_5ForConditionalGeneration",
        KOSMOS2_5,
        {"plain": lambda: _patches(0), "padded": lambda: _patches(PADDED)},
        TEXT_AND_VISION | {"qformer cross": 1},
        expected="fallback",
    ),
    Architecture(
        "clap",
        "ClapModel",
        CLAP,
        {"plain": _sounds},
        {"text self": 2, "encoder self": 2},
        expected="fallback",
    ),
]
