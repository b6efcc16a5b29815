"""A task as the data that a fix is fitted on: examples that it is never judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.splits import Validation, without_shared
from headwise.evaluation.task_run import TaskRun

if TYPE_CHECKING:
    import pandas as pd

    from headwise.evaluation.example import Example
    from headwise.evaluation.task import Metric
    from headwise.subject import Subject


@dataclass(frozen=True)
class TaskCalibration:
    """Examples of a task that are not compared, see `headwise.subject.calibration.Calibration`."""

    task_run: TaskRun
    name: str
    """Such as "multiple-choice, validation, n = 200, seed 0"."""
    left_out: int = 0
    """Examples that were passed over since they share a picture, sound or text with what is compared."""

    @property
    def prompts(self) -> list[Mapping[str, Any]]:
        """Keyword arguments of `Subject.prepare`, one mapping per example."""
        return [example.inputs for example in self.task_run.examples]

    @property
    def ids(self) -> list[str]:
        """Of the examples."""
        return [example.id for example in self.task_run.examples]

    @property
    def groups(self) -> list[str] | None:
        """What every example is about, where several are about one thing."""
        return self.task_run.groups.column

    def scores(self, subject: Subject) -> list[float]:
        """The task's first metric of every example by itself, higher is better; NaN where an example has none."""
        task_run = self.task_run
        if subject.model is not task_run.subject.model:
            own = TaskRun.create(subject, task_run.task, batch_size=task_run.batch_size)
            task_run = replace(task_run, subject=own.subject)
        return example_scores(task_run.task.metrics[0], task_run.run().frame)


def calibration(task_run: TaskRun, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> TaskCalibration:
    """`n` examples of the task's validation split.

    Args:
        task_run: the task, and the model it is put to.
        n: how many.
        seed: chooses them.
        exclude: examples that are compared, see `Task.validation`.

    Raises:
        InputError: `n` is not positive, there are fewer, or the task's own split holds what is compared.
    """
    if n < 1:
        raise InputError("Fits need an example or more.", evidence=f"{n}", remedy="200 are usual.")
    task = task_run.task
    examples = task.validation(n, seed, exclude=exclude)
    left_out = examples.left_out if isinstance(examples, Validation) else 0
    shared = 0 if task.over_file else len(examples) - len(without_shared(examples, exclude))
    if shared:
        raise InputError(
            f"The validation split of {task.title} holds what is compared.",
            evidence=f"{shared} of {len(examples)} examples share an id, picture, sound or text with the test",
            remedy="Leave out what shares content with exclude in the task's validation().",
        )
    without = f", without {left_out} that share content with what is compared" if left_out else ""
    name = f"{task.title}, validation, n = {n}, seed {seed}{without}"
    return TaskCalibration(task_run.with_examples(examples), name, left_out)


def example_scores(metric: Metric, frame: pd.DataFrame) -> list[float]:
    """A metric of every row by itself, signed so that higher is better.

    Example:
        >>> import pandas as pd
        >>> from headwise.evaluation.task import ratio
        >>> frame = pd.DataFrame({"errors": [1, 0], "words": [4, 5]})
        >>> example_scores(ratio("errors", "words", higher_is_better=False), frame)
        [-0.25, 0.0]
    """
    columns = [frame[name].to_numpy(dtype=float)[:, None] for name in metric.columns]
    found = np.asarray(metric.statistic(*columns, axis=-1), dtype=float)
    found = np.where(metric.applies(frame), found, np.nan)
    return (0.0 - found if metric.higher_is_better is False else found).tolist()
