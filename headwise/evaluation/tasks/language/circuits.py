"""The tasks whose circuits are best known: indirect object identification, and colored objects."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.data.files import Row, read_json_lines
from headwise.evaluation.data.splits import draw_of_file, validation_of_zoo
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.multiple_choice import MultipleChoice
from headwise.evaluation.task import Metric, Response, Task, mean
from headwise.zoo.data.colored_objects import colored_objects_prompt
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.prompts import Prompt, Split, check_split

_DRAWN = 1000


@dataclass(frozen=True, kw_only=True)
class Contrast(Task):
    """A prompt, its right continuation, and a wrong one that only the meaning rules out.

    `accuracy` asks whether the right continuation is the most probable one of the whole vocabulary;
    `logit_difference` is the log-probability of the right one less that of the wrong one, in nats (for single
    tokens it equals the difference of their logits), and `preferred` the share of prompts where it is above 0
    (chance is one half).

    `data` is a file in JSON lines: `{"prompt": "...", "answer": " Mary", "wrong": " John"}`, where answer and
    wrong are written as they follow the prompt, with their space; `id` may be given. A continuation of several
    tokens counts as said when its first token is the most probable one.
    """

    guards: ClassVar[tuple[str, ...]] = ()

    data: Path | None = None
    split: Split = "test"
    """Of the zoo's prompts."""

    def __post_init__(self) -> None:
        check_split(self.split)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy in the whole vocabulary, logit difference, share of prompts that prefer the right one."""
        return (mean("accuracy"), mean("logit_difference", unit="nats"), mean("preferred"))

    @property
    def solver(self) -> MultipleChoice:
        """Right and wrong continuations are scored."""
        return MultipleChoice()

    def prompt(self, rng: random.Random) -> Prompt:
        """One prompt of the zoo's generator."""
        raise NotImplementedError

    def examples(self) -> Sequence[Example]:
        """The prompts of the file; 1,000 of the zoo's with seed 0 where there is none."""
        if self.data is None:
            return self.draw(None, 0)
        return [_read(row) for row in read_json_lines(self.data, _LINE)]

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Prompts of the validation split; of a file, its own."""
        return validation_of_zoo(self, n, seed, exclude)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """Prompts of the file, or of the zoo's generator (1,000 of them unless `n` says otherwise)."""
        if self.data is not None:
            return draw_of_file(self.examples(), n, seed, what=str(self.data))
        rng = random.Random(f"{self.name}/{self.split}/{seed}")
        return prompt_examples(lambda: self.prompt(rng), _DRAWN if n is None else n, f"{self.split}/{seed}")

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Right or not, and how far right is ahead of wrong."""
        wrong = example.metadata["wrong"]
        ahead = response.scores[example.answer] - response.scores[wrong]
        return {
            "wrong": wrong,
            "accuracy": response.metadata["said"] == example.answer,
            "logit_difference": ahead,
            "preferred": ahead > 0,
        }


_LINE = {"prompt": "When Mary and John met, John gave a cup to", "answer": " Mary", "wrong": " John"}


@dataclass(frozen=True, kw_only=True)
class Ioi(Contrast):
    """Indirect object identification: "When Mary and John went to the store, John gave a drink to" -> " Mary".

    Wang et al. 2022, "Interpretability in the Wild"; the zoo's prompts use 15 templates in both orders, with
    pairs of names that were not trained on. How to read the numbers, and files of your own: `Contrast`.

    Example:
        >>> item = Ioi().draw(1, seed=0)[0]
        >>> item.answer != item.metadata["wrong"]
        True
    """

    name: ClassVar[str] = "ioi"

    def prompt(self, rng: random.Random) -> Prompt:
        """One sentence with two names."""
        return ioi_prompt(rng, self.split)


@dataclass(frozen=True, kw_only=True)
class ColoredObjects(Contrast):
    """The color of one of three objects, after a worked example: "What color is the mug?" -> " Yellow".

    Reasoning about colored objects of BIG-bench in the form of Merullo et al. 2024, "Circuit Component Reuse
    Across Tasks in Transformer Language Models". The wrong answer is the color of another of the objects. How
    to read the numbers, and files of your own: `Contrast`.

    Example:
        >>> ColoredObjects(shots=0).draw(1, seed=0)[0].inputs["text"][:2]
        'Q:'
    """

    name: ClassVar[str] = "colored-objects"

    shots: int = 1
    """Worked examples before the question, 0 or 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots not in (0, 1):
            raise InputError("There are prompts with 0 or 1 worked examples.", evidence=f"shots={self.shots}")

    def prompt(self, rng: random.Random) -> Prompt:
        """One question, after as many worked examples as the task says."""
        return colored_objects_prompt(rng, self.split, shots=self.shots)


def prompt_examples(draw: Callable[[], Prompt], n: int, name: str) -> list[Example]:
    """`n` drawn prompts as examples whose ids begin with `name`."""
    return [
        Example(
            f"{name}/{number}",
            {"text": item.prompt},
            item.answer,
            {"candidates": item.candidates, "wrong": item.wrong},
        )
        for number, item in enumerate(draw() for _ in range(n))
    ]


def _read(row: Row) -> Example:
    answer, wrong = row.text("answer"), row.text("wrong")
    if answer == wrong:
        row.wrong("Answer and wrong are the same.", "Give two continuations.")
    metadata = {"candidates": (answer, wrong), "wrong": wrong}
    return Example(row.name(f"line {row.line}"), {"text": row.text("prompt")}, answer, metadata, row.group)
