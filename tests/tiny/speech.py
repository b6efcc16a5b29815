"""Speech recognisers and speech encoders."""

from __future__ import annotations

import torch

from headwise.testing.inputs import Inputs, random_ids, random_normal

from .architecture import ENCODER, ENCODER_DECODER, Architecture

SEQUENCE = {
    "vocab_size": 128,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
WHISPER = SEQUENCE | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 32}
SPEECH_TO_TEXT = SEQUENCE | {
    "max_position_embeddings": 64,
    "input_feat_per_channel": 16,
    "conv_channels": 16,
    "max_source_positions": 64,
    "max_target_positions": 32,
}
WAV2VEC2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16, 16),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 128,
}
SPECTROGRAM = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_mel_bins": 16,
    "max_length": 32,
    "patch_size": 8,
    "frequency_stride": 4,
    "time_stride": 4,
}
MOONSHINE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def _with_target(inputs: Inputs) -> Inputs:
    return inputs | {"decoder_input_ids": random_ids(2, 7, seed=2)}


def _mask(length: int, real: int) -> torch.Tensor:
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, real:] = 0
    return mask


WAVE = {
    "plain": lambda: {"input_values": random_normal(2, 1000)},
    "padded": lambda: {"input_values": random_normal(2, 1000), "attention_mask": _mask(1000, 600)},
}
FEATURES = {
    "plain": lambda: _with_target({"input_features": random_normal(2, 40, 16)}),
    "padded": lambda: _with_target(
        {"input_features": random_normal(2, 40, 16), "attention_mask": _mask(40, 24)}
    ),
}

ROWS = [
    Architecture(
        "whisper",
        "WhisperForConditionalGeneration",
        WHISPER,
        {"plain": lambda: _with_target({"input_features": random_normal(2, 16, 40)})},
        ENCODER_DECODER,
    ),
    Architecture(
        "speech_to_text", "Speech2TextForConditionalGeneration", SPEECH_TO_TEXT, FEATURES, ENCODER_DECODER
    ),
    Architecture(
        "moonshine",
        "MoonshineForConditionalGeneration",
        MOONSHINE,
        {"plain": lambda: _with_target({"input_values": random_normal(2, 8000)})},
        ENCODER_DECODER,
    ),
    Architecture("wav2vec2", "Wav2Vec2Model", WAV2VEC2, WAVE, ENCODER),
    Architecture("hubert", "HubertModel", WAV2VEC2, WAVE, ENCODER),
    Architecture("data2vec_audio", "Data2VecAudioModel", WAV2VEC2, WAVE, ENCODER),
    Architecture(
        "wav2vec2_conformer",
        "Wav2Vec2ConformerModel",
        WAV2VEC2 | {"position_embeddings_type": "relative"},
        WAVE,
        ENCODER,
    ),
    Architecture("wavlm", "WavLMModel", WAV2VEC2, {"plain": WAVE["plain"]}, ENCODER, expected="refused"),
    Architecture(
        "ast", "ASTModel", SPECTROGRAM, {"plain": lambda: {"input_values": random_normal(2, 32, 16)}}, ENCODER
    ),
]
