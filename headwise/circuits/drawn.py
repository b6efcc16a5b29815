"""Tasks whose prompts are drawn by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from headwise.circuits.pairs import PairSet
from headwise.circuits.texts import text_pairs
from headwise.errors import InputError
from headwise.plugins import close_names
from headwise.zoo.data.colored_objects import colored_objects_prompt
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.prompts import Prompt

if TYPE_CHECKING:
    from headwise.subject import Subject

TASKS: Mapping[str, Callable[[random.Random], Prompt]] = MappingProxyType(
    {
        "ioi": lambda rng: ioi_prompt(rng, "test"),
        "colored-objects": lambda rng: colored_objects_prompt(rng, "test"),
    }
)
"""Indirect object identification (the second subject becomes the other name), and colored objects (another object is
asked for)."""
_TRIES = 20


def drawn_pairs(subject: Subject, task: str, count: int = 32, seed: int = 0) -> PairSet:
    """Pairs of a task; those whose prompts or answers do not fit the model's tokenizer are drawn again.

    Args:
        subject: the model with its processor.
        task: one of `TASKS`.
        count: pairs.
        seed: of the draw.

    Raises:
        InputError: there is no such task, or too few pairs fit: answers of several tokens, words of unlike length.
    """
    if task not in TASKS:
        raise InputError(f"There is no task of pairs {task!r}.", evidence=close_names(task, TASKS))
    rng, rows, error = random.Random(f"{task}/{seed}"), [], None
    for _ in range(_TRIES * count):
        prompt = TASKS[task](rng)
        row = {
            "clean": prompt.prompt,
            "corrupted": prompt.corrupted,
            "correct": prompt.answer,
            "wrong": prompt.wrong,
        }
        try:
            text_pairs(subject, [row], task)
        except InputError as problem:
            error = problem
            continue
        rows.append(row)
        if len(rows) == count:
            return text_pairs(subject, rows, task)
    raise InputError(
        f"The prompts of {task} do not fit this model's tokenizer.",
        evidence=f"{len(rows)} of {_TRIES * count} do; the last one: {error}",
        remedy="Write pairs of your own.",
    )
