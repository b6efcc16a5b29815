"""Random tokens of a model's own vocabulary: no language helps to predict them, so that only looking back does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.layout.roles import Vocabulary

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel


def ordinary_tokens(subject: LoadedModel) -> list[int]:
    """Every token that stands for a piece of text, in ascending order.

    Raises:
        InputError: the model has no words.

    Example:
        >>> from headwise.testing import tiny_model
        >>> import headwise as hw
        >>> ordinary_tokens(hw.wrap(tiny_model("gpt2")))[:3]
        [0, 3, 4]
    """
    tokenizer, size = (
        subject.tokenizer,
        getattr(subject.config.get_text_config(decoder=True), "vocab_size", 0),
    )
    if not size:
        raise InputError("This model reads no words.", evidence=type(subject.model).__name__)
    if tokenizer is None:
        vocabulary = Vocabulary.of(subject.model, None)
        left_out = vocabulary.special | vocabulary.start | vocabulary.image | vocabulary.audio
    else:
        size, left_out = min(len(tokenizer), size), frozenset(tokenizer.all_special_ids)
    return [token for token in range(size) if token not in left_out]


def random_copies(subject: LoadedModel, seed: str, period: int) -> list[int]:
    """Two copies of `period` different random tokens, one behind the other.

    Raises:
        InputError: the vocabulary has fewer tokens.
    """
    words = ordinary_tokens(subject)
    if len(words) < period:
        raise InputError("The vocabulary is too small.", evidence=f"{len(words)} tokens, period={period}")
    return 2 * random.Random(seed).sample(words, period)
