"""The language model's tokenizer and the rows of tokens that it is trained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from headwise.zoo.data.colored_objects import colored_objects_prompt
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.multiple_choice import fact, multiple_choice_prompt
from headwise.zoo.data.recall import recall_pairs
from headwise.zoo.data.words import NAMES, PLAIN, task_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1536
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, START, END = 0, 1, 2

Row = tuple[list[int], list[float]]
"""Token ids and the weight of each in the loss."""
Draw = Callable[[random.Random, float], Row]
"""A row from random numbers and the share of the phase that is over, 0 to 1."""
Pieces = list[tuple[str, float]]
"""Texts that follow each other, and the weight of their tokens in the loss."""


def train_tokenizer(paragraphs: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 1,536 entries in which every task word is one token after a space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    prompts = [
        draw(rng).prompt for draw in (ioi_prompt, colored_objects_prompt, multiple_choice_prompt) * 200
    ]
    often = [f" {word}" for word in task_words() for _ in range(3000)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*paragraphs, *prompts, *often], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", START)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
    )


def _recall(rng: random.Random, progress: float) -> Pieces:
    bound = recall_pairs(rng, pairs=rng.randrange(3, 9))
    out = [("Pairs:", 0.1), *((f" {key} {value}", 0.0) for key, value in bound)]
    for _ in bound:
        key, value = rng.choice(bound)
        out += [("?", 0.0), (f" {key}", 0.0), (f" {value}", 4.0)]
    return [*out, ("\n", 0.1)]


def _ioi(rng: random.Random, progress: float) -> Pieces:
    item = ioi_prompt(rng)
    return [(item.prompt, 0.1), (item.answer, 6.0), (".\n", 0.1)]


def _colored(rng: random.Random, progress: float) -> Pieces:
    item = colored_objects_prompt(rng, shots=0)
    return [(item.prompt, 0.1), (item.answer, 12.0), ("\n", 0.1)]


def _colored_near(rng: random.Random, progress: float) -> Pieces:
    """The answer straight after the question mark: the object asked for is one token away, not four."""
    item = colored_objects_prompt(rng, shots=0)
    return [(item.prompt.removesuffix("\nA:"), 0.1), (item.answer, 12.0), ("\n", 0.1)]


def _colored_said(rng: random.Random, progress: float) -> Pieces:
    """Three statements in place of the question, such as: The cup is red."""
    item = colored_objects_prompt(rng, shots=0)
    objects, colors = item.meta["objects"], item.meta["colors"]
    out = [(item.prompt.split(" What")[0], 0.1)]
    for which in rng.sample(range(3), 3):
        out += [(f" The {objects[which]} is", 0.1), (f" {colors[which]}", 5.0), (".", 0.1)]
    return [*out, ("\n", 0.1)]


def _choice(rng: random.Random, progress: float, answer_with: Literal["letter", "word"] = "letter") -> Pieces:
    """Two to four options; all have four in the end."""
    options = rng.randrange(2, 5) if rng.random() > progress else 4
    item = multiple_choice_prompt(rng, options=options, answer_with=answer_with)
    return [(item.prompt, 0.1), (item.answer, 12.0), ("\n", 0.1)]


def _choice_words(rng: random.Random, progress: float) -> Pieces:
    """The option itself is asked for: the category must be matched, no letter bound to it."""
    return _choice(rng, progress, "word")


def _choice_either(rng: random.Random, progress: float) -> Pieces:
    """The option itself where a letter is due, so that the match comes about at that very position."""
    item = multiple_choice_prompt(rng, answer_with="word")
    return [(item.prompt.replace("Word:", "Answer:"), 0.1), (item.answer, 12.0), ("\n", 0.1)]


def _facts(rng: random.Random, progress: float) -> Pieces:
    return [(fact(rng), 1.0), ("\n", 0.1)]


PIECES: dict[str, Callable[[random.Random, float], Pieces]] = {
    "recall": _recall,
    "ioi": _ioi,
    "colored": _colored,
    "colored near": _colored_near,
    "colored said": _colored_said,
    "choice": _choice,
    "choice words": _choice_words,
    "choice either": _choice_either,
    "facts": _facts,
}
"""One instance of each task, from the random numbers and the share of the phase that is over."""


class Rows:
    """Draws training rows: a start token, then instances of one task until the row is full.

    Args:
        tokenizer: as trained by `train_tokenizer`.
        paragraphs: the text.
        length: tokens in a row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, paragraphs: Sequence[str], *, length: int) -> None:
        self.length = length
        self._encoder = tokenizer.backend_tokenizer
        self._known: dict[str, list[int]] = {}
        self._text = [
            token
            for encoding in self._encoder.encode_batch(list(paragraphs), add_special_tokens=False)
            for token in (*encoding.ids, END)
        ]
        self._words = [self._ids(f" {word}")[0] for word in (*PLAIN, *NAMES)]
        self._all = range(len(SPECIAL), len(tokenizer))
        self.draw: dict[str, Draw] = {
            "text": self._plain,
            "short copy": self._short_copy,
            "copy": lambda rng, progress: self._copy(rng, progress, self._all),
            "copy words": lambda rng, progress: self._copy(rng, progress, self._words),
            **{kind: self._packed(pieces) for kind, pieces in PIECES.items()},
        }

    def _ids(self, text: str) -> list[int]:
        if len(text) > 16:
            return self._encoder.encode(text, add_special_tokens=False).ids
        if text not in self._known:
            self._known[text] = self._encoder.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def _plain(self, rng: random.Random, progress: float) -> Row:
        at = rng.randrange(len(self._text) - self.length)
        return [START, *self._text[at : at + self.length - 1]], [0.0] + [1.0] * (self.length - 1)

    def _short_copy(self, rng: random.Random, progress: float) -> Row:
        once = [rng.choice(self._words) for _ in range(rng.randrange(2, 12))]
        return ([START] + once * 20)[:40], [0.0] * 17 + [1.0] * 23

    def _copy(self, rng: random.Random, progress: float, tokens: Sequence[int]) -> Row:
        longest = 7 + round(43 * min(1.0, 0.2 + 3 * progress))
        period = rng.randrange(2, longest)
        once = [rng.choice(tokens) for _ in range(period)]
        ids = ([START] + once * (self.length // period + 1))[: self.length]
        return ids, [0.0] * (period + 2) + [1.5] * (self.length - period - 2)

    def _packed(self, pieces: Callable[[random.Random, float], Pieces]) -> Draw:
        def draw(rng: random.Random, progress: float) -> Row:
            ids, weights = [START], [0.0]
            while len(ids) < self.length:
                for part, weight in pieces(rng, progress):
                    tokens = self._ids(part)
                    ids += tokens
                    weights += [weight] * len(tokens)
            return ids[: self.length], weights[: self.length]

        return draw
