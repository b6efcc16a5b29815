"""Translation: an M2M100 (NLLB) model that turns phrases of English into eight languages and back."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from headwise.zoo.data.languages import ENGLISH, OTHERS, TAGS, language_of
from headwise.zoo.data.phrases import draw_pair
from headwise.zoo.recipe import Phase, Recipe

if TYPE_CHECKING:
    from transformers import M2M100ForConditionalGeneration, NllbTokenizer, PreTrainedModel

    from headwise.zoo.data.phrase import Phrase, PhrasePair

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""The first pieces of every NLLB vocabulary, in the order of their ids."""
START, PAD, END, UNKNOWN = range(4)
VOCABULARY = 2_500
"""Pieces of the tokenizer before the language tags and the mask are added."""
SHARES = {"sw": 2, "ki": 1.5, "so": 2.5, "luo": 1.5, "de": 2, "tr": 2, "zh": 3, "hi": 3.5}
"""How often each language is drawn. Other scripts and other spellings of names need more; Kikuyu and Luo get least."""
KINDS = {
    "full": 1,
    "long": 0.7,
    "day": 0.7,
    "territory": 2.5,
    "amount": 1.2,
    "territory_date": 1,
    "date_amount": 1,
    "territories_amount": 2,
}
"""How often each kind is drawn: more territories than in the test split, since nearly all errors are rare names."""
ROWS, PARTS = 64, 4
"""Phrases per step, and how many parts of like length they are padded in."""
TAG_WEIGHT = 0.1
"""Weight of the language tag in the loss; it is given when translating."""
SMOOTHING = 0.05


class Translation(Recipe):
    """English to and from Swahili, Kikuyu, Somali, Luo, German, Turkish, Chinese and Hindi."""

    name = "nmt"
    phases = (Phase(name="phrases", steps=5_000, rate=2e-3, warm_up=0.1),)

    @cached_property
    def tokenizer(self) -> NllbTokenizer:
        """Trained on phrases of the training split."""
        return train_tokenizer(random.Random(f"{self.name}/{self.seed}/tokenizer"))

    def build(self) -> tuple[M2M100ForConditionalGeneration, NllbTokenizer]:
        """Three layers on each side, width 128, eight heads of 16, tied embeddings."""
        from transformers import M2M100Config, M2M100ForConditionalGeneration

        config = M2M100Config(
            vocab_size=len(self.tokenizer),
            d_model=128,
            encoder_layers=3,
            decoder_layers=3,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            encoder_ffn_dim=256,
            decoder_ffn_dim=256,
            max_position_embeddings=128,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            encoder_layerdrop=0.0,
            decoder_layerdrop=0.0,
            scale_embedding=True,
            bos_token_id=START,
            pad_token_id=PAD,
            eos_token_id=END,
            decoder_start_token_id=END,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return M2M100ForConditionalGeneration(config), self.tokenizer

    def batch(self, phase: Phase, step: int) -> dict[str, Tensor]:
        """Rows in `PARTS` parts by length: `source_0`, `labels_0`, and so on; labels are -100 at padding."""
        rng = self.random(phase, step)
        rows = sorted((self._row(rng) for _ in range(ROWS)), key=lambda row: len(row[0]) + len(row[1]))
        size = ROWS // PARTS
        batch = {}
        for part in range(PARTS):
            sources, labels = zip(*rows[part * size : (part + 1) * size], strict=True)
            batch[f"source_{part}"] = _padded(sources, PAD)
            batch[f"labels_{part}"] = _padded(labels, -100)
        return batch

    def loss(
        self, model: PreTrainedModel, phase: Phase, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Smoothed cross-entropy per target token over all parts; `token_accuracy` leaves the tags out."""
        logits, labels, weights = [], [], []
        for part in range(PARTS):
            source, wanted = batch[f"source_{part}"], batch[f"labels_{part}"]
            given = functional.pad(wanted[:, :-1], (1, 0), value=END)
            out = model.model(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                decoder_input_ids=given.masked_fill(given == -100, PAD),
            )
            real = wanted != -100
            weight = torch.ones_like(wanted, dtype=torch.float32)
            weight[:, 0] = TAG_WEIGHT
            logits.append(model.lm_head(out.last_hidden_state[real]))
            labels.append(wanted[real])
            weights.append(weight[real])
        scores, wanted, weight = torch.cat(logits), torch.cat(labels), torch.cat(weights)
        losses = functional.cross_entropy(scores, wanted, label_smoothing=SMOOTHING, reduction="none")
        words = weight == 1
        right = (scores.argmax(-1) == wanted)[words].float().mean()
        return (losses * weight).sum() / weight.sum(), {"token_accuracy": right.item()}

    def finish(self, model: PreTrainedModel) -> None:
        """Greedy decoding; whoever translates gives `forced_bos_token_id`, the tag of the language wanted."""
        settings = model.generation_config
        settings.max_length = None
        settings.max_new_tokens = 100
        settings.num_beams = 1

    def _row(self, rng: random.Random) -> tuple[list[int], list[int]]:
        """Ids of a source and of its labels: tag, pieces, end."""
        pair = _draw(rng)
        if rng.random() < 0.5:
            pair = pair.reversed()
        return self._ids(pair.source), self._ids(pair.target)

    def _ids(self, phrase: Phrase) -> list[int]:
        tag: Any = self.tokenizer.convert_tokens_to_ids(language_of(phrase.language).tag)
        pieces = self.tokenizer(phrase.text, add_special_tokens=False).input_ids
        return [tag, *pieces, END]


def train_tokenizer(rng: random.Random, *, pairs: int = 24_000) -> NllbTokenizer:
    """An NLLB tokenizer of the phrases. No piece crosses from one segment of a phrase into the next.

    Digits and marks are pieces of their own. The merges are learned within segments, so that the plain NLLB
    tokenizer, which splits at spaces only, cuts the same way. It reads English and writes Swahili until its
    `src_lang` and `tgt_lang` are set.

    Args:
        rng: where the phrases come from.
        pairs: how many pairs of phrases it is trained on.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import NllbTokenizer

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[UNKNOWN], fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "removed"),
            pre_tokenizers.Split(Regex("▁[^▁]*"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIALS), show_progress=False)
    tokenizer.train_from_iterator(_corpus(rng, pairs), trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    return NllbTokenizer(
        vocab=learned["vocab"],
        merges=merges,
        src_lang=ENGLISH.tag,
        tgt_lang=language_of(OTHERS[0]).tag,
        extra_special_tokens=list(TAGS),
    )


def _corpus(rng: random.Random, pairs: int) -> Iterator[str]:
    """Phrases with their segments on lines of their own and spaces as the tokenizer writes them."""
    for _ in range(pairs):
        pair = _draw(rng)
        for phrase in (pair.source, pair.target):
            lines = "\n".join(segment.text for segment in phrase.segments)
            yield "▁" + lines.replace(" \n", " ").replace(" ", "▁")


def _draw(rng: random.Random) -> PhrasePair:
    language = rng.choices(OTHERS, [SHARES[code] for code in OTHERS])[0]
    return draw_pair(rng, language, "train", rng.choices(list(KINDS), list(KINDS.values()))[0])


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])
