"""Runs of a task: its examples put to a model, as often as wanted, always the same ones."""

from __future__ import annotations

import copy
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.data.groups import Groups, groups_in, groups_of
from headwise.evaluation.data.splits import split_record
from headwise.evaluation.example import Example
from headwise.evaluation.registry import find_task
from headwise.evaluation.replies import empty_counts
from headwise.evaluation.statistics.estimate import Estimate, estimate
from headwise.evaluation.task import Metric, Response, Task
from headwise.model.fingerprint import fingerprint
from headwise.subject import Subject, wrap
from headwise.subject.info import model_info

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

BATCH = 32
_PACKAGES = ("headwise", "torch", "transformers", "numpy", "scipy")

Progress = Callable[[int, int], None]
"""Callback after every batch: how many examples are done, and of how many."""


@dataclass(frozen=True)
class TaskOutputs:
    """Scores of what a model said, and what it took."""

    frame: pd.DataFrame
    """One row per example, in their order."""
    seconds: float
    """Wall clock."""
    cpu_seconds: float
    """Of all threads of this process."""
    tokens: int
    """Generated or scored."""
    remarks: tuple[str, ...] = ()
    """What a reader of the scores has to know, such as the language that a model heard."""


@dataclass(frozen=True)
class TaskRun:
    """Examples of a task for one model, which is asked as it is at that moment: patches on it count."""

    subject: Subject
    """With a processor of its own, whose padding and languages may be set."""
    task: Task
    examples: Sequence[Example]
    batch_size: int

    @classmethod
    def create(
        cls, subject: Subject | PreTrainedModel, task: Task | str, *, batch_size: int = BATCH
    ) -> TaskRun:
        """A run without examples as yet; everything that can be refused without them is refused.

        Raises:
            InputError: there is no such task, or the model cannot be asked (no tokenizer, wrong kind).
        """
        own = with_own_processor(subject)
        if isinstance(task, str):
            task = find_task(task)
        if own.processor is None:
            raise InputError(
                "There is no tokenizer to ask this model with.", remedy="hw.wrap(model, processor)"
            )
        if batch_size < 1:
            raise InputError("n and batch_size count examples.", evidence=f"batch_size={batch_size}")
        task.check(own)
        return cls(own, task, (), batch_size)

    def draw(self, n: int | None, seed: int) -> TaskRun:
        """The same with `n` of the task's examples.

        Raises:
            InputError: `n` is not positive, or the data holds fewer, or none.
        """
        if n is not None and n < 1:
            raise InputError("n and batch_size count examples.", evidence=f"n={n}")
        return self.with_examples(self.task.draw(n, seed))

    def with_examples(self, examples: Sequence[Example]) -> TaskRun:
        """The same with these examples.

        Raises:
            InputError: there are none, or two have one id.
        """
        if not examples:
            raise InputError(f"{self.task.title} has no examples.", remedy="Check its data and options.")
        twice = [id for id, count in Counter(example.id for example in examples).items() if count > 1]
        if twice:
            raise InputError(
                f"Ids of {self.task.title} occur more than once.",
                evidence=", ".join(twice[:3]),
                remedy="Give every example an id of its own.",
            )
        return replace(self, examples=tuple(examples))

    @cached_property
    def _reader(self) -> ContentReader:
        """Of the content of the examples, which groups and split ask for: a file is read once."""
        return ContentReader()

    @cached_property
    def groups(self) -> Groups:
        """What the examples are about."""
        return groups_of(self.examples, self._reader)

    @property
    def written(self) -> bool:
        """True where the model writes its replies, so that they can be empty."""
        return self.task.solver.manifest().get("asked") == "generate"

    def run(self, progress: Progress | None = None) -> TaskOutputs:
        """Put them to the model, in evaluation mode, and score what it says."""
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, len(self.examples))

        started, worked = time.perf_counter(), time.process_time()
        with without_dropout(self.subject.model):
            responses = self.task.solver(
                self.subject, self.examples, batch_size=self.batch_size, advance=advance
            )
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        frame = table(self.task, self.examples, responses, groups=self.groups.column)
        tokens = sum(response.tokens for response in responses)
        return TaskOutputs(frame, seconds, worked, tokens, tuple(self.task.remarks(responses)))

    def manifest(self, outputs: TaskOutputs | None = None, **call: Any) -> dict[str, Any]:
        """Manifest: what a second run needs for the same numbers: prompt, decoding, ids, model and versions.

        Args:
            outputs: those whose remarks are noted, behind what is to be known of the model and of the examples.
            call: what else is to be said of the call.
        """
        empty = {"empty": empty_counts(outputs.frame)} if outputs is not None and self.written else {}
        notes = self.task.notes(self.examples)
        remarks = () if outputs is None else outputs.remarks
        warnings = [*self.subject.warnings, *notes.get("warnings", ()), *remarks]
        return {
            "task": {
                "name": self.task.title,
                "version": self.task.version,
                "options": self.task.options(),
            },
            "template": self.task.template,
            "decoding": self.task.solver.manifest(),
            **call,
            "batch_size": self.batch_size,
            "ids": [example.id for example in self.examples],
            **split_record(self.task, self.examples, self._reader),
            **empty,
            **self.groups.record,
            "model": model_record(self.subject) | {"generation_config": _generation(self.subject.model)},
            "versions": versions_of(_PACKAGES),
            "notes": {**notes, **({"warnings": warnings} if warnings else {})},
        }


def model_record(subject: Subject) -> dict[str, Any]:
    """Facts of a model for a manifest."""
    info = model_info(subject)
    return {
        "name": info.name,
        "class": info.class_name,
        "revision": info.revision,
        "fingerprint": fingerprint(subject.model),
        "dtype": info.dtype,
        "device": info.device,
    }


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages, and of Python."""
    return {name: version(name) for name in packages} | {"python": platform.python_version()}


def estimates(metrics: Sequence[Metric], frame: pd.DataFrame, seed: int) -> dict[str, Estimate]:
    """Every metric over the rows of a per-example table, with its interval."""
    return {
        metric.name: estimate(
            metric, metric.select(frame), seed=seed, groups=groups_in(frame, metric.applies(frame))
        )
        for metric in metrics
    }


@contextmanager
def without_dropout(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode inside the block; every module has its own mode again behind it."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def with_own_processor(subject: Subject | PreTrainedModel) -> Subject:
    """The subject with a copy of its processor, so that padding and languages set for a task stay here.

    Prompts are padded on the left, as `generate` needs it; a solver that reads a forward pass pads on the
    right itself.
    """
    if not isinstance(subject, Subject):
        subject = wrap(subject)
    own = replace(subject, processor=copy.deepcopy(subject.processor))
    if own.tokenizer is not None and not subject.config.is_encoder_decoder:
        own.tokenizer.padding_side = "left"
        if own.tokenizer.pad_token is None:
            own.tokenizer.pad_token = own.tokenizer.eos_token
    return own


def table(
    task: Task,
    examples: Sequence[Example],
    responses: Sequence[Response],
    *,
    groups: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The per-example table: one row per example with what was asked and said, and what the task scores.

    `groups` names what every example is about; None where each is one of its own.
    """
    import pandas as pd

    rows = [
        {
            "id": example.id,
            "prompt": _cell_value(example.inputs.get("text", "")),
            "answer": _cell_value(example.answer),
            "response": response.text,
            "tokens": response.tokens,
            **task.score(example, response),
        }
        for example, response in zip(examples, responses, strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame if groups is None else frame.assign(group=groups)


def _cell_value(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _generation(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's own generation config sets: what a task does not say is taken from there."""
    config = getattr(model, "generation_config", None)
    return {} if config is None else json.loads(config.to_json_string(use_diff=True))
