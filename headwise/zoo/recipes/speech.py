"""`zoo:speech`: a Whisper-class model that hears spoken commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from headwise.zoo.data import utterances
from headwise.zoo.data.utterances import RATE, Clip, Split
from headwise.zoo.recipe import Phase, Recipe

if TYPE_CHECKING:
    from transformers import (
        GenerationConfig,
        PreTrainedModel,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperProcessor,
        WhisperTokenizer,
    )

END, START, SILENT = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
SPECIAL = (
    END,
    START,
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    SILENT,
)
MELS = 40
PROMPT = 2
"""Tokens before the first word: start, no timestamps."""
POSITION = 0.02
"""Seconds that a position of the encoder lasts."""
IGNORED = -100


class Speech(Recipe):
    """A Whisper-class model of 0.8 million parameters, trained on clips that espeak-ng speaks."""

    name = "speech"
    phases = (Phase(name="speech", steps=3_400, rate=1.5e-3, warm_up=0.1),)
    clips = 10_000
    """Training clips, spoken once, every fourth without noise; the batches draw from them."""
    judges = 96
    """Validation clips that choose the alignment heads."""
    size = 32
    """Clips per batch."""

    def build(self) -> tuple[PreTrainedModel, WhisperProcessor]:
        """The untrained model and its processor; speaks the clips, which takes a minute.

        Raises:
            InputError: no synthesiser is installed.
        """
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        tokenizer, extractor = make_tokenizer(), make_extractor()
        self._processor = WhisperProcessor(extractor, tokenizer)
        features, self._targets = [], []
        spoken = self.speak("train", self.clips)
        while some := list(islice(spoken, 64)):
            waves = [clip.noisy() if place % 4 else clip.samples for place, clip in enumerate(some)]
            features.append(mel(waves, extractor).half())
            self._targets += [tokenizer(clip.text).input_ids for clip in some]
        self._features = torch.cat(features)
        self._judges = list(self.speak("validation", self.judges))
        model = WhisperForConditionalGeneration(_config(tokenizer))
        model.generation_config = _generation(tokenizer)
        return model, self._processor

    def speak(self, split: Split, n: int) -> Iterator[Clip]:
        """The clips to learn from."""
        return utterances.clips(split, n, seed=self.seed)

    def batch(self, phase: Phase, step: int) -> dict[str, Tensor]:
        """Features of some clips, disturbed, with the decoder's input and what it should say next."""
        rng = self.random(phase, step)
        chosen = [rng.randrange(len(self._targets)) for _ in range(self.size)]
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        rows = [self._targets[index] for index in chosen]
        width = max(map(len, rows)) - 1
        end = rows[0][-1]
        given = [row[:-1] + [end] * (width + 1 - len(row)) for row in rows]
        # the prompt is given, not predicted: the first label is that of its last token
        wanted = [
            [IGNORED] * (PROMPT - 1) + row[PROMPT:] + [IGNORED] * (width + 1 - len(row)) for row in rows
        ]
        return {
            "input_features": disturb(self._features[chosen].float(), generator),
            "decoder_input_ids": torch.tensor(given),
            "labels": torch.tensor(wanted),
        }

    def loss(
        self, model: PreTrainedModel, phase: Phase, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the words and of the end, and the share of them that is right."""
        labels = batch["labels"]
        logits = model(
            input_features=batch["input_features"], decoder_input_ids=batch["decoder_input_ids"]
        ).logits
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        right = (logits.argmax(-1) == labels)[labels != IGNORED]
        return loss, {"accuracy": right.float().mean().item()}

    def finish(self, model: PreTrainedModel) -> None:
        """Name the alignment heads: those that tell word starts best on the validation clips."""
        generation: Any = model.generation_config
        generation.alignment_heads = choose_heads(model, self._judges, self._processor)


def make_tokenizer() -> WhisperTokenizer:
    """Byte-level BPE in which every word of the clips is one token, with Whisper's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import WhisperTokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2_000, initial_alphabet=sorted(alphabet), show_progress=False)
    trained.train_from_iterator([word for word in utterances.WORDS for _ in range(2)], trainer)
    learned = json.loads(trained.to_str())["model"]
    vocabulary = {**learned["vocab"], END: len(learned["vocab"])}
    return WhisperTokenizer(
        vocab=vocabulary,
        merges=[tuple(pair) for pair in learned["merges"]],
        unk_token=END,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        add_prefix_space=True,
        additional_special_tokens=list(SPECIAL),
    )


def make_extractor() -> WhisperFeatureExtractor:
    """Whisper's front end with 40 mel bands and clips of three seconds."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(
        feature_size=MELS,
        sampling_rate=RATE,
        hop_length=160,
        n_fft=400,
        chunk_length=round(utterances.SECONDS),
    )


def mel(
    waves: Sequence[Float[np.ndarray, " _"]], extractor: WhisperFeatureExtractor
) -> Float[Tensor, "clip mel frame"]:
    """Log-mel features of some waves, padded with silence to three seconds."""
    return extractor(list(waves), sampling_rate=RATE, return_tensors="pt").input_features


def disturb(
    features: Float[Tensor, "clip mel frame"], generator: torch.Generator
) -> Float[Tensor, "clip mel frame"]:
    """The same words as if by other mouths and microphones.

    Every clip gets a mel axis that is stretched (the length of the vocal tract), a tilted spectrum, noise,
    two masked bands and one masked stretch of at most 0.1 s.
    """
    n, mels, frames = features.shape

    def uniform(low: float, high: float) -> Float[Tensor, "clip 1 1"]:
        return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

    row = torch.arange(mels).view(1, -1, 1)
    column = torch.arange(frames).view(1, 1, -1)
    place = (row * uniform(0.88, 1.14)).clamp(max=mels - 1)
    lower = place.floor().long().clamp(max=mels - 2)
    share = place - lower
    below = features.gather(1, lower.expand_as(features))
    above = features.gather(1, (lower + 1).expand_as(features))
    out = torch.lerp(below, above, share.expand_as(features))
    out = out + uniform(-0.15, 0.15) * (2 * row / (mels - 1) - 1)
    out = out + 0.08 * torch.randn(features.shape, generator=generator)
    middle = out.mean((1, 2), keepdim=True)
    for axis, length, longest in ((row, mels, 6), (row, mels, 6), (column, frames, 11)):
        first = (uniform(0.0, 1.0) * (length - longest)).floor()
        hidden = (axis >= first) & (axis < first + (uniform(0.0, 1.0) * longest).floor())
        out = torch.where(hidden, middle, out)
    return out


def choose_heads(
    model: PreTrainedModel, clips: Sequence[Clip], processor: WhisperProcessor
) -> list[list[int]]:
    """Decoder heads, as (layer, head), whose cross-attention tells best when the words begin.

    Greedy forward selection on `start_errors`: a head is added as long as it takes off a millisecond.
    """
    rest = [
        [layer, head]
        for layer in range(model.config.decoder_layers)
        for head in range(model.config.decoder_attention_heads)
    ]
    layers = cross_attention(model, clips, processor)
    chosen: list[list[int]] = []
    best = float("inf")
    while rest:
        errors = [start_errors(layers, clips, [*chosen, head]) for head in rest]
        means = [sum(row) / len(row) for row in errors]
        least = min(range(len(rest)), key=means.__getitem__)
        if means[least] > best - 0.001:
            break
        best = means[least]
        chosen.append(rest.pop(least))
    return sorted(chosen)


@torch.no_grad()
def cross_attention(
    model: PreTrainedModel, clips: Sequence[Clip], processor: WhisperProcessor
) -> list[Float[Tensor, "clip head row frame"]]:
    """Where the decoder looks while it is given the words, layer by layer; row i predicts token i + 1."""
    listener = deepcopy(model).eval()
    listener.set_attn_implementation("eager")
    tokenizer = processor.tokenizer
    rows = [tokenizer(clip.text).input_ids[:-1] for clip in clips]
    width = max(map(len, rows))
    given = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    features = mel([clip.noisy() for clip in clips], processor.feature_extractor)
    out = listener(
        input_features=features.to(model.device, model.dtype),
        decoder_input_ids=given.to(model.device),
        output_attentions=True,
    )
    return [layer.cpu() for layer in out.cross_attentions]


def start_errors(
    layers: Sequence[Float[Tensor, "clip head row frame"]], clips: Sequence[Clip], heads: Sequence[list[int]]
) -> list[float]:
    """Seconds between the true start of every word and where the heads put it."""
    from headwise.functional.time_warping import token_start_frames

    errors: list[float] = []
    for number, clip in enumerate(clips):
        rows = PROMPT + len(clip.words)
        weights = torch.stack([layers[layer][number, head, :rows] for layer, head in heads])
        frames = int(len(clip.samples) / (RATE * POSITION))
        found = POSITION * token_start_frames(weights, first=PROMPT - 1, frames=frames)
        errors += [abs(start - time) for (start, _), time in zip(clip.spans, found, strict=False)]
    return errors


def _config(tokenizer: Any) -> WhisperConfig:
    from transformers import WhisperConfig

    end = tokenizer.eos_token_id
    positions = make_extractor().nb_max_frames // 2
    return WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MELS,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        max_source_positions=positions,
        max_target_positions=32,
        dropout=0.0,
        init_std=0.05,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(START),
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def _generation(tokenizer: Any) -> GenerationConfig:
    from transformers import GenerationConfig

    end = tokenizer.eos_token_id
    return GenerationConfig(
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(START),
        no_timestamps_token_id=tokenizer.convert_tokens_to_ids(SILENT),
        prev_sot_token_id=tokenizer.convert_tokens_to_ids("<|startofprev|>"),
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        is_multilingual=False,
        return_timestamps=False,
        max_new_tokens=28,  # a pipeline would ask for 256, and the decoder has 32 positions
    )
