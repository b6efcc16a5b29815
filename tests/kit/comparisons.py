"""Fixes, subjects and a task for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import headwise as hw
from headwise.errors import NotFitted
from headwise.evaluation import Example, Metric, MultipleChoice, Task, mean, ratio
from headwise.evaluation.task_run import TaskRun
from tests.kit.subjects import WORDS, word_tokenizer


def small_subject() -> hw.Subject:
    """An untrained model whose tokenizer has no padding token and pads on the right."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=16, n_positions=24, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.3)
    return hw.wrap(model, word_tokenizer(pad=False))


def recorded_questions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of every call that puts questions to a model, from here on."""
    ids: list[list[str]] = []
    real = TaskRun.run

    def run(self, progress=None):
        ids.append([example.id for example in self.examples])
        return real(self, progress)

    monkeypatch.setattr(TaskRun, "run", run)
    return ids


SILENT = hw.fixes.ZeroHeads(heads=((0, 0), (0, 1)))
"""Every head of the small model, muted."""


@dataclass(frozen=True, kw_only=True)
class Next(Task):
    """Which of two words follows; a task over a list, as a user would write one."""

    name: ClassVar[str] = "next"

    count: int = 40

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            mean("right", name="accuracy"),
            ratio("wrong_long", "long", higher_is_better=False),
            Metric("odd", ("right",), mean("right").statistic, where=("odd", True)),
        )

    @property
    def solver(self) -> MultipleChoice:
        return MultipleChoice()

    def examples(self) -> Sequence[Example]:
        found = []
        for number in range(self.count):
            words = [WORDS[(number * step + number // 12) % len(WORDS)] for step in range(1, 5)]
            metadata = {"candidates": (" cat", " mat"), "number": number}
            found.append(
                Example(f"e{number}", {"text": " ".join([*words, WORDS[number % 12]])}, " cat", metadata)
            )
        return found

    def score(self, example: Example, response: Any) -> dict[str, Any]:
        right = response.scores[" cat"] > response.scores[" mat"]
        number = example.metadata["number"]
        long = number % 3
        return {
            "right": right,
            "margin": response.scores[" cat"] - response.scores[" mat"],
            "long": long,
            "wrong_long": long * (not right),
            "odd": number % 2 == 1,
        }


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Silences the heads that `fit` chose; cannot be used before."""

    heads: tuple[tuple[int, int], ...] | None = None
    beta: float = 0.5
    seen: list[Any] = field(default_factory=list, compare=False, repr=False)
    leaks_future: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[float, float]]] = {"beta": (0.0, 1.0)}

    @property
    def neutral(self) -> bool:
        return self.beta == 1.0

    def missing_constants(self, model: Any) -> tuple[str, ...]:
        return ("heads",) if self.heads is None else ()

    def bind(self, model: Any) -> Learned:
        if self.heads is None:
            raise NotFitted("Learned has no heads for this model.", remedy="hw.fit(subject, fix, task)")
        return self

    def fit(self, subject: hw.Subject, data: Any) -> Learned:
        self.seen.append({"name": data.name, "prompts": list(data.prompts), "scores": data.scores(subject)})
        return replace(self, heads=((0, 0),))

    def scale(self, z: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        return z * self.beta


@dataclass(frozen=True, kw_only=True)
class Breaks:
    """Raises when it is used for the `after`-th time."""

    calls: list[int] = field(default_factory=list, compare=False)

    def scale(self, z: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        self.calls.append(1)
        if len(self.calls) > 1:
            raise RuntimeError("broken on purpose")
        return z
