"""What a model can look up in its own context: pairs of words, and a sequence it has seen before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from headwise.errors import InputError
from headwise.evaluation.data.splits import validation_of_zoo
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance, continues
from headwise.evaluation.solvers.multiple_choice import MultipleChoice
from headwise.evaluation.task import Metric, Response, Solver, Task, mean, ratio
from headwise.evaluation.tasks.language.circuits import prompt_examples
from headwise.model.tokenizing import decoded
from headwise.probes.run_examples import run_model
from headwise.subject.repeats import random_copies
from headwise.zoo.data.prompts import Split, check_split
from headwise.zoo.data.recall import recall_prompt
from headwise.zoo.data.words import PLAIN

if TYPE_CHECKING:
    from transformers import BatchFeature

    from headwise.subject import Subject

_DRAWN = 1000


@dataclass(frozen=True, kw_only=True)
class Recall(Task):
    """Associative recall: pairs of words, then one of the first words; what stood behind it?

    "Pairs: grape beach copper peach? copper" -> " peach". `accuracy` asks whether the right word is the most
    probable one of the whole vocabulary, `among` whether it is so among the second words of the pairs (chance
    is one over `pairs`). The words are common English ones, so that any tokenizer will do; a word of several
    tokens counts as said when its first token is the most probable one.

    After multi-query associative recall of Arora et al. 2023, "Zoology".

    Example:
        >>> Recall(pairs=2).draw(1, seed=0)[0].inputs["text"].startswith("Pairs: ")
        True
    """

    name: ClassVar[str] = "recall"
    guards: ClassVar[tuple[str, ...]] = ()

    pairs: int = 4
    split: Split = "test"
    """Of the bindings of words; the zoo was trained on `train`."""

    def __post_init__(self) -> None:
        check_split(self.split)
        most = len(PLAIN) // 4
        if not 2 <= self.pairs <= most:
            raise InputError(f"There are 2 to {most} pairs.", evidence=f"pairs={self.pairs}")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy in the whole vocabulary, and among the second words of the pairs."""
        return (mean("accuracy"), mean("among"))

    @property
    def solver(self) -> MultipleChoice:
        """The second words of the pairs are scored."""
        return MultipleChoice()

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """1,000 prompts unless `n` says otherwise."""
        rng = random.Random(f"{self.name}/{self.split}/{self.pairs}/{seed}")
        name = f"{self.split}/{self.pairs}/{seed}"
        draw = lambda: recall_prompt(rng, self.split, pairs=self.pairs)  # noqa: E731
        return prompt_examples(draw, _DRAWN if n is None else n, name)

    def examples(self) -> Sequence[Example]:
        """1,000 prompts, with seed 0."""
        return self.draw(None, 0)

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Prompts of the validation split: other bindings of words."""
        return validation_of_zoo(self, n, seed, exclude)

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Right in the whole vocabulary, and right among the second words."""
        chosen = max(response.scores, key=lambda word: response.scores[word])
        return {
            "chosen": chosen.strip(),
            "accuracy": response.metadata["said"] == example.answer,
            "among": chosen == example.answer,
        }


@dataclass(frozen=True, kw_only=True)
class Repeated(Task):
    """A task over random tokens of the model's own vocabulary, twice.

    The sequences are token ids, drawn when the model is asked (`repeated_batches`): every tokenizer will do.
    """

    template: ClassVar[str] = "<bos> random tokens, the same tokens again"

    period: int = 25
    """Tokens in a copy."""

    def __post_init__(self) -> None:
        if self.period < 2:
            raise InputError("A period has two tokens or more.", evidence=f"period={self.period}")


@dataclass(frozen=True, kw_only=True)
class Copying(Repeated):
    """Random tokens of the model's own vocabulary, twice: how many of the second copy does it predict?

    The first token of the second copy cannot be known and is not counted. Prediction is by the most probable
    token of the whole vocabulary, so chance is nearly 0: what is measured is looking back (an induction head
    does it), not knowledge of the language. `accuracy` is over tokens, `whole` over sequences without a fault.

    Example:
        >>> Copying(period=8).draw(1, seed=0)[0].id
        'copying/8/0/0'
    """

    name: ClassVar[str] = "copying"
    guards: ClassVar[tuple[str, ...]] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy over tokens, and share of sequences that are right throughout."""
        return (ratio("right", "asked", name="accuracy"), mean("whole"))

    @property
    def solver(self) -> Solver:
        """By the most probable token after every prefix of the second copy."""
        return _CopyingSolver(self.period)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """200 sequences unless `n` says otherwise."""
        ids = [f"{self.name}/{self.period}/{seed}/{number}" for number in range(200 if n is None else n)]
        return [Example(id, {}, "", {"seed": id}) for id in ids]

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Sequences from seeds that `draw` never uses."""
        ids = [f"{self.name}/validation/{self.period}/{seed}/{number}" for number in range(n)]
        return [Example(id, {}, "", {"seed": id}) for id in ids]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Tokens predicted, tokens asked."""
        right, asked = response.metadata["right"], response.metadata["asked"]
        return {"right": right, "asked": asked, "whole": right == asked}


@dataclass(frozen=True)
class _CopyingSolver:
    period: int

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        if not continues(subject):
            raise InputError(
                "Copying needs a decoder with a tokenizer.", evidence=type(subject.model).__name__
            )
        responses = []
        for inputs, first in repeated_batches(subject, examples, self.period, batch_size):
            ids = inputs["input_ids"]
            predicted = run_model(subject, inputs).logits[:, first:-1].argmax(-1)
            right = (predicted == ids[:, first + 1 :]).sum(-1).tolist()
            for row, count in zip(predicted, right, strict=True):
                metadata = {"right": count, "asked": self.period - 1}
                responses.append(Response(decoded(subject.tokenizer, row), self.period - 1, {}, metadata))
            advance(len(ids))
        return responses

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "most probable token at every position"}


def repeated_batches(
    subject: Subject, examples: Sequence[Example], period: int, size: int
) -> Iterator[tuple[BatchFeature, int]]:
    """Tensors of at most `size` examples, drawn from `example.metadata["seed"]`, and the start of the second copy."""
    for start in range(0, len(examples), size):
        chosen = examples[start : start + size]
        inputs = subject.prepare(text=[repeated(subject, item.metadata["seed"], period) for item in chosen])
        yield inputs, inputs["input_ids"].shape[1] - period


def repeated(subject: Subject, seed: str, period: int) -> list[int]:
    """The opening token where the tokenizer has one, then two copies of `period` different random tokens.

    Raises:
        InputError: the vocabulary has fewer tokens.
    """
    opening = subject.tokenizer.bos_token_id
    return [*([] if opening is None else [opening]), *random_copies(subject, seed, period)]
