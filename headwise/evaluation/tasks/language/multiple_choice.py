"""Multiple choice: which letter, or which of its options, follows a question."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from headwise.errors import InputError
from headwise.evaluation.data.content import plain_text
from headwise.evaluation.data.files import Row, read_json_lines
from headwise.evaluation.data.splits import draw_of_file, validation_of_zoo
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.multiple_choice import MultipleChoice
from headwise.evaluation.task import Metric, Response, Task, mean
from headwise.zoo.data.multiple_choice import multiple_choice_prompt
from headwise.zoo.data.prompts import Split, check_split

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DRAWN = 1000


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceQuestions(Task):
    """Questions with options; what the model would write next is scored, nothing is written.

    `accuracy` asks which of the letters is the most probable (chance is one over the options),
    `full_accuracy` whether the right letter is the most probable word of all, and `probability` is what the
    right letter gets. A model that always says "A" has an `accuracy` at chance and a high `full_accuracy`
    where the answer is A: the per-example table has both.

    With `candidates="texts"` the options themselves are scored instead of their letters, by the log-probability of
    their tokens. Then `accuracy` is lm-evaluation-harness's acc, which favours short options, and `acc_norm` its own:
    the largest log-probability per character. `template` need not list the options, as in "Question: {question}".

    Without `data` the questions are the zoo's: which of four words belongs to a category. `data` is a file in
    JSON lines, one question each: `{"question": "...", "options": ["...", "..."], "answer": 1}` where the
    answer is an index from 0 or a letter; `id` may be given. `template` says how a question is written, with
    `{question}` and `{options}`, and `option` how each option is, with `{letter}` and `{text}`.

    The form of the prompt follows "Does Circuit Analysis Interpretability Scale? Evidence from Multiple Choice
    Capabilities in Chinchilla" (Lieberum et al. 2023).

    Example:
        >>> task = MultipleChoiceQuestions(option="({letter}) {text}")
        >>> print(task.draw(1, seed=0)[0].inputs["text"])
        Which one is an animal?
        (A) boat
        (B) steel
        (C) lemon
        (D) lion
        Answer:
    """

    name: ClassVar[str] = "multiple-choice"
    guards: ClassVar[tuple[str, ...]] = ("full_accuracy",)

    data: Path | None = None
    split: Split = "test"
    """Of the zoo's questions."""
    template: str = "{question}\n{options}\nAnswer:"
    option: str = "{letter}. {text}"
    candidates: Literal["letters", "texts"] = "letters"
    """What is scored."""

    def __post_init__(self) -> None:
        check_split(self.split)
        if self.candidates not in ("letters", "texts"):
            raise InputError(
                "There are no such candidates.", evidence=repr(self.candidates), remedy="letters or texts"
            )
        listed = ("question", "options") if self._lettered else ("question",)
        for name, needed in (("template", listed), ("option", ("letter", "text") if self._lettered else ())):
            text = getattr(self, name)
            missing = [place for place in needed if f"{{{place}}}" not in text]
            if missing:
                raise InputError(f"The {name} leaves out {{{missing[0]}}}.", evidence=repr(text))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy among the candidates, in the whole vocabulary, and the probability of the right candidate."""
        norm = () if self._lettered else (mean("acc_norm"),)
        return (mean("accuracy"), *norm, mean("full_accuracy"), mean("probability"))

    @property
    def solver(self) -> MultipleChoice:
        """The candidates, each after a space, are scored."""
        return MultipleChoice()

    def examples(self) -> Sequence[Example]:
        """The questions of the file; 1,000 of the zoo's with seed 0 where there is none."""
        if self.data is None:
            return self.draw(None, 0)
        rows = read_json_lines(
            self.data, {"question": "Which one flies?", "options": ["pig", "bird"], "answer": "B"}
        )
        return [self._read(row) for row in rows]

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Questions of the validation split; of a file, its own."""
        return validation_of_zoo(self, n, seed, exclude)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """Questions of the file, or of the zoo's generator (1,000 of them unless `n` says otherwise)."""
        if self.data is not None:
            return draw_of_file(self.examples(), n, seed, what=str(self.data))
        rng = random.Random(f"{self.name}/{self.split}/{seed}")
        prompts = [multiple_choice_prompt(rng, self.split) for _ in range(_DRAWN if n is None else n)]
        return [
            Example(
                f"{self.split}/{seed}/{number}",
                *self._asked(
                    item.prompt.partition("\n")[0],
                    item.meta["options"],
                    item.candidates.index(item.answer),
                ),
            )
            for number, item in enumerate(prompts)
        ]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """What was chosen among the candidates, and the numbers."""
        scores = response.scores
        chosen = max(scores, key=lambda candidate: scores[candidate])
        per_character = max(scores, key=lambda candidate: scores[candidate] / (len(candidate) - 1))
        return {
            "chosen": chosen.strip(),
            "accuracy": chosen == example.answer,
            **({} if self._lettered else {"acc_norm": per_character == example.answer}),
            "full_accuracy": response.metadata["said"] == example.answer,
            "probability": math.exp(scores[example.answer]),
        }

    def _read(self, row: Row) -> Example:
        options = row.fields["options"]
        if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
            row.wrong("The options are not a list of two or more.", 'Write "options": ["...", "..."].')
        if not all(isinstance(option, str) and option.strip() for option in options):
            row.wrong("An option is not a text.", "Give every option as a string.")
        if not self._lettered and len(set(options)) < len(options):
            row.wrong("Two options are the same text.", "Leave one out, or score letters.")
        inputs, answer, metadata = self._asked(row.text("question"), options, _place(row, options))
        # the same options in another order are the same question
        content = "\n".join([plain_text(row.text("question")), *sorted(map(plain_text, options))])
        return Example(
            row.name(f"line {row.line}"), inputs, answer, {**metadata, "content": content}, row.group
        )

    @property
    def _lettered(self) -> bool:
        return self.candidates == "letters"

    def _asked(self, question: str, options: Sequence[str], right: int) -> tuple[Any, str, dict[str, Any]]:
        """Inputs, answer and metadata of an example."""
        names = LETTERS[: len(options)] if self._lettered else options
        candidates = tuple(f" {name}" for name in names)
        return {"text": self._written(question, options)}, candidates[right], {"candidates": candidates}

    def _written(self, question: str, options: Sequence[str]) -> str:
        lines = [
            _filled(self.option, letter=letter, text=text)
            for letter, text in zip(LETTERS, options, strict=False)
        ]
        return _filled(self.template, question=question, options="\n".join(lines))


def _filled(template: str, **values: str) -> str:
    """The template with its places filled; braces in the values stay what they are."""
    return re.sub("{(" + "|".join(values) + ")}", lambda found: values[found[1]], template)


def _place(row: Row, options: Sequence[str]) -> int:
    """Index of the right option: a number counts from 0, a letter from A."""
    answer = row.fields["answer"]
    letters = LETTERS[: len(options)]
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip().upper() in letters:
        return letters.index(answer.strip().upper())
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return answer
    row.wrong(
        f"The answer {answer!r} names none of the {len(options)} options.",
        f"Give an index from 0 to {len(options) - 1}, or a letter from A to {letters[-1]}.",
    )
