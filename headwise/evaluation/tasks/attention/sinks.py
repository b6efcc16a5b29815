"""Sinks: is there a key that a head looks at whatever the query?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from headwise.analyses._received import received
from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.registry import find_task
from headwise.evaluation.solvers.batching import Advance, batches, prepared
from headwise.evaluation.task import Metric, Response, Solver, Task, mean
from headwise.model.tokenizing import encoded
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.subject.languages import set_languages

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Sinks(Task):
    """Is there a key that a head looks at whatever the query?

    The measure is that of Gu et al., "When Attention Sink Emerges in Language Models".

    Reads the prompts of another task and captures. Per example and kind of attention: `heads` is the share of
    heads with a key whose mean received attention exceeds `epsilon`, `largest` the largest mean any key
    receives from any head. A flat causal map of 64 tokens gives 0.074 to its first key, one of 10 gives 0.29:
    short inputs look like sinks, so `min_rows` queries must see a key before it counts.

    Example:
        >>> import headwise as hw
        >>> 0 <= hw.evaluate(hw.load("zoo:lm"), "sinks", n=2).value <= 1
        True
    """

    name: ClassVar[str] = "sinks"
    guards: ClassVar[tuple[str, ...]] = ()

    of: str = "perplexity"
    """The task whose examples are read."""
    tower: str = "text"
    kind: str = "self"
    epsilon: float = 0.3
    min_rows: int = 16
    max_tokens: int = 128
    """Texts are cut to this many tokens."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError("max_tokens counts from 1.", evidence=f"max_tokens={self.max_tokens}")
        if not 0 < self.epsilon < 1 or self.min_rows < 1:
            raise InputError(
                "epsilon is a share and min_rows counts rows.",
                evidence=f"epsilon={self.epsilon}, min_rows={self.min_rows}",
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Share of heads with a sink, and the largest mean share of one key."""
        return (mean("heads", higher_is_better=None), mean("largest", higher_is_better=None))

    @property
    def solver(self) -> Solver:
        """By a capture of the statistics."""
        return _SinksSolver(self)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """The examples of the other task."""
        return find_task(self.of).draw(n or 100, seed)

    @property
    def has_validation(self) -> bool:
        """That of the other task."""
        return find_task(self.of).has_validation

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Those that the other task is fitted on."""
        return find_task(self.of).validation(n, seed, exclude=exclude)

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """The two numbers, and which head and key are the largest."""
        return dict(response.metadata)


@dataclass(frozen=True)
class _SinksSolver:
    task: Sinks

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        examples = [self._shaped(subject, example) for example in examples]
        responses: dict[int, Response] = {}
        for indices in batches(subject, examples, batch_size, _languages):
            if any(languages := _languages(examples[indices[0]])):
                set_languages(subject.tokenizer, *languages)
            inputs = prepared(subject, [examples[index] for index in indices])
            with capture(subject, check=not responses) as trace:
                run_model(subject, inputs)
            groups = [group for group in received(trace) if self._wanted(group)]
            if not groups:
                raise InputError(
                    f"The model has no {self.task.kind}-attention in a {self.task.tower} tower.",
                    evidence=type(subject.model).__name__,
                )
            alpha = groups[0].alpha.where(groups[0].rows >= self.task.min_rows, torch.nan)
            for row, index in enumerate(indices):
                responses[index] = self._response(alpha[row])
            advance(len(indices))
        return [responses[index] for index in range(len(examples))]

    def _wanted(self, group: Any) -> bool:
        return (group.tower, group.kind) == (self.task.tower, self.task.kind)

    def _shaped(self, subject: Subject, example: Example) -> Example:
        """Cut to length; the decoder of an encoder-decoder model is given the right answer."""
        inputs = dict(example.inputs)
        if not inputs or any(isinstance(value, list) for value in inputs.values()):
            raise InputError(f"{self.task.of} has no prompts to read.", remedy="Choose another task as of=.")
        if subject.config.is_encoder_decoder and "target" not in inputs:
            if not isinstance(example.answer, str) or not example.answer.strip():
                raise InputError(
                    f"{self.task.of} has no right answers to give to a decoder.",
                    evidence=type(subject.model).__name__,
                    remedy="Choose another task as of=, such as translation or transcription.",
                )
            inputs["target"] = example.answer
        if list(inputs) == ["text"] and isinstance(inputs["text"], str):
            inputs["text"] = encoded(subject.tokenizer, inputs["text"], verbose=False).input_ids[
                : self.task.max_tokens
            ]
        return replace(example, inputs=inputs)

    def _response(self, alpha: torch.Tensor) -> Response:
        """From one example's mean received attention, (head, key)."""
        peak = alpha.nan_to_num(0.0).amax(-1)
        if alpha.isnan().all():
            seen = {"heads": float("nan"), "largest": float("nan")}
        else:
            seen = {"heads": float((peak > self.task.epsilon).float().mean()), "largest": float(peak.max())}
        return Response("", 0, {}, seen)

    def manifest(self) -> dict[str, Any]:
        return {"asked": "statistics"}


def _languages(example: Example) -> tuple[str, str]:
    """Source and target of a sentence to translate; two empty names elsewhere."""
    return example.metadata.get("source", ""), example.metadata.get("target", "")
