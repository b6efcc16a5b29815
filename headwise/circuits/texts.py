"""Pairs that a user writes: two prompts and two answers, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.circuits.pairs import PairSet
from headwise.errors import InputError
from headwise.text import visible

if TYPE_CHECKING:
    from headwise.subject import Subject

EXAMPLE = {
    "clean": "When Mary and John met, John gave a cup to",
    "corrupted": "When Mary and John met, Mary gave a cup to",
    "correct": " Mary",
    "wrong": " John",
}
"""A pair in words."""
FIELDS = tuple(EXAMPLE)


def text_pairs(subject: Subject, rows: Iterable[Mapping[str, Any]], name: str = "pairs") -> PairSet:
    """Pairs from rows with `clean`, `corrupted`, `correct` and `wrong`.

    A prompt is a text, or keywords of `Subject.prepare` for a model that sees, hears or translates. Answers are written
    as they follow the prompt, with their space; in an encoder-decoder they follow `target`.

    Args:
        subject: the model with its processor; its tokenizer makes the labels.
        rows: one per pair.
        name: of the task.

    Raises:
        InputError: there is no row, one lacks a field, prompts of a pair are not equally long, an answer is more than
            one token.
    """
    rows = list(rows)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or any(field not in row for field in FIELDS):
            raise InputError(
                f"Pair {number} of {name} is incomplete.",
                evidence=visible(repr(row), limit=120),
                remedy=f"Write it as {EXAMPLE}.",
            )
    if not rows:
        raise InputError(f"There are no pairs in {name}.", remedy=f"Write them as {EXAMPLE}.")
    prompts = {which: [_prompt(row[which]) for row in rows] for which in ("clean", "corrupted")}
    answers = {
        which: torch.tensor(
            [
                answer_id(subject, prompt, row[which])
                for prompt, row in zip(prompts["clean"], rows, strict=True)
            ]
        )
        for which in ("correct", "wrong")
    }
    inputs = {which: [dict(subject.prepare(**prompt)) for prompt in prompts[which]] for which in prompts}
    return PairSet(name, inputs["clean"], inputs["corrupted"], answers["correct"], answers["wrong"])


def answer_id(subject: Subject, prompt: Mapping[str, Any], answer: str) -> int:
    """The token that an answer is behind a prompt.

    Raises:
        InputError: it is several, or changes the tokens before it.
    """
    field = "target" if subject.config.is_encoder_decoder else "text"
    before = _ids(subject, prompt)
    after = _ids(subject, {**prompt, field: f"{prompt.get(field) or ''}{answer}"})
    if len(after) != len(before) + 1 or not torch.equal(after[:-1], before):
        raise InputError(
            "An answer must be one token that the prompt goes on with.",
            evidence=f"{visible(answer)!r} makes {len(before)} tokens {len(after)}",
            remedy="Give a shorter word, with the space in front of it, and no space at the end of the prompt.",
        )
    return int(after[-1])


def _ids(subject: Subject, prompt: Mapping[str, Any]) -> Tensor:
    inputs = subject.prepare(**prompt)
    return inputs["decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"][0]


def _prompt(given: Any) -> dict[str, Any]:
    return {"text": given} if isinstance(given, str) else dict(given)
