"""Tiny subjects with processors made here: a word-level tokenizer, and the families that are built on one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers import processors as templates
from transformers import (
    CLIPImageProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

import headwise as hw

WORDS = ("a", "cat", "sat", "on", "the", "mat", ".", ",", "what", "is", "this", "?")
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
LETTERS = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
TAGS = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>")
TAGS += ("<|notimestamps|>",)
SIZE = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
}
PATCHES = {"image_size": 32, "patch_size": 8}
VISION = {
    name: value for name, value in SIZE.items() if name not in ("vocab_size", "max_position_embeddings")
}
SEQ2SEQ = {
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def word_tokenizer(*special: str, side: str = "right", pad: bool = True) -> PreTrainedTokenizerFast:
    """Words between spaces, `<bos>` in front; ids 0 to 3 are `<pad> <bos> <eos> <unk>`, then `special`."""
    vocabulary = [*SPECIAL, *special, *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = templates.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>" if pad else None,
        additional_special_tokens=list(special),
        padding_side=side,
    )


def llava_processor(*, side: int = 32, patch: int = 8, width: int | None = None) -> LlavaProcessor:
    """Images of `side` rows and `width` columns of pixels, cut into patches."""
    images = CLIPImageProcessor(
        size={"height": side, "width": width or side},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=word_tokenizer("<image>", side="left"),
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )


def whisper_processor() -> WhisperProcessor:
    """Whisper's own classes over a vocabulary of a few letters, and one second of sound."""
    tokenizer = WhisperTokenizer(vocab={**LETTERS, "<|endoftext|>": len(LETTERS)}, merges=[])
    tokenizer.add_tokens([*TAGS, "<|0.00|>", "<|0.02|>"], special_tokens=True)
    tokenizer.set_prefix_tokens(language="english", task="transcribe", predict_timestamps=False)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=1, n_fft=400, hop_length=160)
    return WhisperProcessor(extractor, tokenizer)


def language(tokenizer=None, **options) -> hw.Subject:
    """A language model with 24 positions."""
    return hw.wrap(LlamaForCausalLM(LlamaConfig(**SIZE, **options)).eval(), tokenizer)


def llava(processor=None) -> hw.Subject:
    """A vision-language model; 4 x 4 patches per image of 32 pixels."""
    config = LlavaConfig(
        text_config={**SIZE, "model_type": "llama", "max_position_embeddings": 64},
        vision_config={**VISION, **PATCHES, "model_type": "clip_vision_model"},
        image_token_id=4,
        vision_feature_layer=-1,
    )
    return hw.wrap(LlavaForConditionalGeneration(config).eval(), processor or llava_processor())


def whisper() -> hw.Subject:
    """A Whisper that hears one second: 100 frames, 50 positions."""
    sizes = {name: value for name, value in SEQ2SEQ.items() if not name.endswith("_token_id")}
    ids = {"decoder_start_token_id": 28, "pad_token_id": 27, "bos_token_id": 27, "eos_token_id": 27}
    config = WhisperConfig(**sizes, **ids, num_mel_bins=16, max_source_positions=50, max_target_positions=24)
    return hw.wrap(WhisperForConditionalGeneration(config).eval(), whisper_processor())


def multilingual_whisper() -> hw.Subject:
    """As published: a tokenizer without language, a generation config with languages and tasks, and timestamps."""
    subject = whisper()
    tokenizer = WhisperTokenizer(vocab={**LETTERS, "<|endoftext|>": len(LETTERS)}, merges=[])
    tokenizer.add_tokens([*TAGS, *(f"<|{0.02 * step:.2f}|>" for step in range(26))], special_tokens=True)
    settings = {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": 29, "<|fr|>": 30},
        "task_to_id": {"translate": 31, "transcribe": 32},
        "no_timestamps_token_id": 33,
        "max_initial_timestamp_index": 25,
        "begin_suppress_tokens": None,
        "_from_model_config": False,  # saved and loaded as it is
    }
    for name, value in settings.items():
        setattr(subject.model.generation_config, name, value)
    return hw.wrap(subject.model, WhisperProcessor(subject.processor.feature_extractor, tokenizer))


def wav2vec2() -> hw.Subject:
    """A speech encoder with one position per 20 samples."""
    stem = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2}
    rest = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    model = Wav2Vec2Model(Wav2Vec2Config(**VISION, **stem, **rest))
    return hw.wrap(model.eval(), Wav2Vec2FeatureExtractor(return_attention_mask=True))


def picture(height: int = 32, width: int = 32) -> Image.Image:
    """Random pixels, the same at every call."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def tone(seconds: float = 0.5, rate: int = 16000) -> tuple[np.ndarray, int]:
    """A steady tone and its rate."""
    return np.sin(np.arange(int(seconds * rate)) / 20).astype(np.float32), rate


def refusal(subject, **inputs) -> str:
    """What is said against these inputs, in one line."""
    with pytest.raises(hw.InputError) as caught:
        subject.prepare(**inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)
