"""Processors made in the test: a word-level tokenizer, and the families that are built on one."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers import processors as templates
from transformers import (
    CLIPImageProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)

WORDS = ("a", "cat", "sat", "on", "the", "mat", ".", ",", "what", "is", "this", "?")
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


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
    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    tags = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>"]
    tags += ["<|notimestamps|>", "<|0.00|>", "<|0.02|>"]
    tokenizer = WhisperTokenizer(vocab=letters | {"<|endoftext|>": len(letters)}, merges=[])
    tokenizer.add_tokens(tags, special_tokens=True)
    tokenizer.set_prefix_tokens(language="english", task="transcribe", predict_timestamps=False)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=1, n_fft=400, hop_length=160)
    return WhisperProcessor(extractor, tokenizer)
