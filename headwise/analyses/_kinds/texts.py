"""Texts made for finding out what a head does, in the tokens of the model that reads them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.model.tokenizing import encoded
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.words import COLORS, GIFTS, MEMBERS, PLACES

if TYPE_CHECKING:
    from headwise.subject import Subject

SERIES = (
    *(" Monday Tuesday Wednesday Thursday Friday Saturday Sunday",),
    *(" January February March April May June July August September October November December",),
    " one two three four five six seven eight nine ten eleven twelve",
    " first second third fourth fifth sixth seventh eighth ninth tenth",
    *(" 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20", " A B C D E F G H I J K L M N O P"),
)
"""Words that have a successor."""
SHORTEST = 4
"""Words of a series that must be one token each, one behind the other."""
FEWEST = 16
"""Words of all series together: of fewer, a head writes half of the next ones by chance too often."""
TRIES = 20
"""Prompts drawn for each that is wanted: the answer of some is no single token."""
FACTS = 12
"""Sentences around a needle."""


@dataclass(frozen=True)
class Text:
    """Token ids of a prompt, and the tokens that it is about."""

    ids: list[int]
    answer: list[int]
    """Ids of the right continuation, which stands in the prompt once."""
    places: list[int]
    """Where it stands there."""


def require_words(subject: Subject, prompts: str) -> None:
    """Refuse a model that reads or continues no text.

    Raises:
        InputError: it does not.
    """
    if subject.tokenizer is None or subject.config.is_encoder_decoder or not subject.model.can_generate():
        raise InputError(
            f'prompts="{prompts}" are texts that a language model goes on with.',
            evidence="there is no tokenizer"
            if subject.tokenizer is None
            else f"{type(subject.model).__name__} is none",
            remedy='Give hw.wrap(model, tokenizer), or use prompts="repeats", which are token ids.',
        )


def name_texts(subject: Subject, count: int, seed: int) -> list[Text]:
    """Sentences that end where the name is to be said that was said once (indirect object identification).

    Raises:
        InputError: no name is one token.
    """
    rng = random.Random(f"names/{seed}")
    drawn = ((item.prompt, item.answer) for item in iter(lambda: ioi_prompt(rng, "test"), None))
    return _fitting(subject, drawn, count, "names")


def needle_texts(subject: Subject, count: int, seed: int) -> list[Text]:
    """A sentence that tells a list of words among others that tell something else, and a question for it.

    Raises:
        InputError: its words are not one token each.
    """
    rng = random.Random(f"needle/{seed}")
    return _fitting(subject, (_needle(rng) for _ in iter(int, 1)), count, "needle")


def series(subject: Subject) -> list[list[int]]:
    """Token ids of words that follow each other, `SHORTEST` or more in a row and `FEWEST` or more in all.

    Raises:
        InputError: the tokenizer has none.
    """
    found = []
    for line in SERIES:
        words = [_word(subject, word) for word in line.split()]
        run: list[int] = []
        for word in [*words, []]:
            if len(word) == 1 and word[0] not in [*run, subject.tokenizer.unk_token_id]:
                run.append(word[0])
                continue
            if len(run) >= SHORTEST:
                found.append(run)
            run = []
    count = sum(map(len, found))
    if count < FEWEST:
        told = f"{count} days, months, numbers and letters in rows of {SHORTEST} or more are one token each"
        raise _no_words("order", f"{told}; {FEWEST} are needed")
    return found


def _needle(rng: random.Random) -> tuple[str, str]:
    asked, *others = rng.sample(PLACES, 6)
    words = rng.sample(sorted(MEMBERS.keys() - {*COLORS}), 4)
    rest = [
        f"The {rng.choice(GIFTS)} in the {rng.choice(others)} is {rng.choice(COLORS)}." for _ in range(FACTS)
    ]
    told = " ".join(words)
    rest.insert(rng.randrange(FACTS + 1), f"The secret words of the {asked} are {told}.")
    return " ".join(rest) + f" What are the secret words of the {asked}? They are", f" {told}"


def _fitting(subject: Subject, drawn: Iterator[tuple[str, str]], count: int, prompts: str) -> list[Text]:
    """The first prompts whose continuation is made of tokens that stand in the prompt once, in a row."""
    found: list[Text] = []
    for _, (prompt, answer) in zip(range(TRIES * count), drawn, strict=False):
        ids, whole = _tokens(subject, prompt), _tokens(subject, prompt + answer)
        rest, words = whole[len(ids) :], len(answer.split())
        known = subject.tokenizer.unk_token_id not in rest
        if whole[: len(ids)] == ids and len(rest) == words and known:
            starts = [place for place in range(len(ids)) if ids[place : place + words] == rest]
            if len(starts) == 1:
                found.append(Text(ids, rest, list(range(starts[0], starts[0] + words))))
        if len(found) == count:
            return found
    raise _no_words(prompts, f"{len(found)} of {TRIES * count} prompts have answers of whole tokens")


def _word(subject: Subject, word: str) -> list[int]:
    """Tokens of a word within a text: a tokenizer may put the space there itself."""
    found = _tokens(subject, f" {word}", special=False)
    return found if len(found) == 1 else _tokens(subject, word, special=False)


def _tokens(subject: Subject, text: str, *, special: bool = True) -> list[int]:
    ids: Sequence[int] | Any = encoded(
        subject.tokenizer, text, add_special_tokens=special, verbose=False
    ).input_ids
    return list(ids)


def _no_words(prompts: str, evidence: str) -> InputError:
    return InputError(
        f'The tokenizer of this model cuts the words of prompts="{prompts}" into pieces.',
        evidence=evidence,
        remedy='Use prompts="repeats", which are made of any tokens.',
    )
