"""Examples of a task, and choosing among them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwise.errors import InputError


@dataclass(frozen=True)
class Example:
    """One thing to ask."""

    id: str
    """Unique within the task, and the same in every run."""
    inputs: Mapping[str, Any]
    """Keywords of `Subject.prepare`: text, image, audio, target."""
    answer: Any
    """What is right, in whatever form the task's score understands."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else the task knows: candidates, category."""
    group: str = ""
    """The picture, sound, sentence or document that it is about, where several examples are about one; found by content
    where it is left empty (`headwise.evaluation.data.groups`)."""


def subset(examples: Sequence[Example], n: int | None, seed: int, *, what: str) -> list[Example]:
    """`n` of the examples without replacement, in their own order; all when `n` is None."""
    if n is None or n == len(examples):
        return list(examples)
    if n > len(examples):
        raise InputError(f"{what} has {len(examples)} examples, fewer than {n}.", remedy="Lower n.")
    chosen = random.Random(seed).sample(range(len(examples)), n)
    return [examples[index] for index in sorted(chosen)]
