"""Ask a model the examples of a task, and score what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwise.evaluation.results.evaluation import Evaluation
from headwise.evaluation.results.scores import SCORES, score_columns
from headwise.evaluation.task_run import BATCH, Progress, TaskRun, estimates

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.evaluation.task import Task
    from headwise.subject import Subject


def evaluate(
    subject: Subject | PreTrainedModel,
    task: Task | str,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on a task.

    Args:
        subject: the model with its processor. A patch that is on the model counts: this measures what it does.
            A model in training mode is asked in evaluation mode, and left as it was.
        task: a task, or the name of one (`headwise.evaluation.task_names()`).
        n: how many examples; None takes all of a file, or the task's own number of a generator.
        seed: chooses the examples, and the resamples of the interval.
        batch_size: examples of like length that are run together; does not change what is counted beyond
            the order of floating-point sums.
        progress: told after every batch how many examples are done, and of how many.

    Returns:
        Every example's response and score, the metrics with 95 % intervals, and the manifest.

    Raises:
        InputError: there is no such task, the model cannot be asked (no tokenizer, wrong kind), or the data
            holds fewer than `n` examples, or none.

    Example:
        >>> import headwise as hw
        >>> result = hw.evaluate(hw.load("zoo:lm"), "ioi", n=20)
        >>> result.estimates["accuracy"].n
        20
    """
    task_run = TaskRun.create(subject, task, batch_size=batch_size).draw(n, seed)
    outputs = task_run.run(progress)
    manifest = task_run.manifest(outputs, n=n, seed=seed)
    manifest["seconds"] = round(outputs.seconds, 3)
    manifest["tokens"] = outputs.tokens
    manifest[SCORES] = score_columns(task_run.task.metrics)
    found = estimates(task_run.task.metrics, outputs.frame, seed)
    return Evaluation(task_run.task.title, found, outputs.frame, manifest)
