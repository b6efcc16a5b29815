"""Vision towers, and the two towers of CLIP and its relatives."""

from __future__ import annotations

from headwise.testing.models import BERT, VIT

from .architecture import TEXT_AND_VISION, VISION, Architecture
from .inputs import PAIRS, PICTURES, picture_inputs

VITDET = VIT | {"pretrain_image_size": 32, "window_size": 2, "window_block_indices": [0]}
SWIN = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
SEGFORMER = {
    "hidden_sizes": [16, 32, 32, 32],
    "num_attention_heads": [1, 2, 2, 2],
    "depths": [1, 1, 1, 1],
}
SHORT_TEXT = BERT | {"max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}

ROWS = [
    Architecture("vit", "ViTModel", VIT, PICTURES, VISION),
    Architecture("deit", "DeiTModel", VIT, PICTURES, VISION),
    Architecture("dinov2", "Dinov2Model", VIT, PICTURES, VISION),
    Architecture("dinov2_with_registers", "Dinov2WithRegistersModel", VIT, PICTURES, VISION),
    Architecture("dinov3_vit", "DINOv3ViTModel", VIT, PICTURES, VISION),
    Architecture("beit", "BeitModel", VIT, PICTURES, VISION),
    Architecture("vit_mae", "ViTMAEModel", VIT, PICTURES, VISION),
    Architecture("ijepa", "IJepaModel", VIT, PICTURES, VISION),
    Architecture("clip_vision", "CLIPVisionModel", VIT, PICTURES, VISION),
    Architecture(
        "siglip_vision",
        "SiglipVisionModel",
        VIT,
        PICTURES,
        VISION,
        expected="partial",
        unreached=("head.attention",),
    ),
    Architecture("vitdet", "VitDetModel", VITDET, PICTURES, VISION, expected="fallback"),
    Architecture("swin", "SwinModel", SWIN, PICTURES, VISION),
    Architecture("segformer", "SegformerModel", SEGFORMER, picture_inputs(64), {"vision self": 4}),
    Architecture(
        "clip",
        "CLIPModel",
        {"text_config": SHORT_TEXT, "vision_config": VIT, "projection_dim": 16},
        PAIRS,
        TEXT_AND_VISION,
    ),
    Architecture(
        "siglip",
        "SiglipModel",
        {"text_config": SHORT_TEXT, "vision_config": VIT},
        PAIRS,
        TEXT_AND_VISION,
        expected="partial",
        unreached=("vision_model.head.attention",),
    ),
    Architecture(
        "chinese_clip",
        "ChineseCLIPModel",
        {"text_config": BERT, "vision_config": VIT},
        PAIRS,
        TEXT_AND_VISION,
    ),
    Architecture(
        "owlvit", "OwlViTModel", {"text_config": SHORT_TEXT, "vision_config": VIT}, PAIRS, TEXT_AND_VISION
    ),
]
