"""Find the constants of a fix for a model, on examples that it is never judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError
from headwise.evaluation.comparison.calibration import TaskCalibration, calibration
from headwise.evaluation.comparison.guards import fallen_between
from headwise.evaluation.example import Example
from headwise.evaluation.results.arm import Arm
from headwise.evaluation.task import Task
from headwise.evaluation.task_run import BATCH, TaskRun, with_own_processor, without_dropout
from headwise.fixes.binding import missing_constants
from headwise.fixes.patching import patch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject
    from headwise.subject.calibration import Calibration


def fit(
    subject: Subject | PreTrainedModel,
    fix: Any,
    data: Task | str | Sequence[str | Mapping[str, Any]],
    *,
    n: int = 200,
    seed: int = 0,
    exclude: Sequence[Example] | None = None,
    batch_size: int = BATCH,
    guard: bool = True,
) -> Any:
    """The fix with its constants found for this model; the model stays as it is.

    A score on the examples that a fix was fitted on is too good, so a fit sees the task's validation split
    alone. Of the zoo's data and of a file `hw.compare` asks others, as long as they suffice; of the texts and clips
    that come with headwise it asks any of them, and `exclude` must say which.

    Args:
        subject: the model with its processor.
        fix: a fix that can be fitted (ACT, VAR), or its name with options, such as "ACT:beta=0.3".
        data: a task or the name of one; or prompts: texts, or keyword arguments of `Subject.prepare`, which are all
            used. Fixes that are judged by answers need a task.
        n: examples of the task's validation split.
        seed: chooses the examples.
        exclude: examples of the task that will be compared, such as `task.draw(100, 0)`: none of them is fitted on, nor
            another one with the same picture, sound or text. Tasks with a validation split need none; [] if nothing
            will be compared.
        batch_size: examples that are run together.
        guard: False keeps a fix that on these examples clearly loses what the task guards, see `hw.compare`.

    Returns:
        A fix of the same class, ready for `hw.patch`, `hw.compare` and `hw.save_spec`. Where nothing was found that
        helps, it changes nothing (`neutral`), and its `source` says so.

    Raises:
        InputError: the name or the task is unknown, the task has too few examples, or no validation split while
            `exclude` is None, or there are too few prompts.
        FixError: the fix has nothing to fit, cannot be fitted on this model, what was found cannot be installed, or it
            clearly loses what the task guards.

    Example:
        >>> import headwise as hw
        >>> hw.fit(hw.load("zoo:lm"), hw.fixes.ZeroHeads(heads=((0, 1),)), "recall", n=10)
        Traceback (most recent call last):
        ...
        headwise.errors.FixError: ZeroHeads has nothing to fit. ...
    """
    from headwise.subject.calibration import as_calibration

    if isinstance(fix, str):
        from headwise.fixes.parsing import parse_fix

        fix = parse_fix(fix)
    if isinstance(fix, list | tuple) or not callable(getattr(fix, "fit", None)):
        raise FixError(
            f"{'A list' if isinstance(fix, list | tuple) else type(fix).__name__} has nothing to fit.",
            evidence="only a fix with a method fit has",
            remedy="Install it as it is: hw.patch(subject, fix).",
        )
    if isinstance(data, Task | str):
        task_run = TaskRun.create(subject, data, batch_size=batch_size)
        if exclude is None and not task_run.task.has_validation:
            raise InputError(
                f"{task_run.task.title} sets no examples apart to fit on.",
                evidence="any of them may be compared later",
                remedy="Give exclude=task.draw(N, seed) (--exclude N), what will be compared ([] if nothing), fit on "
                "other data, or let hw.compare fit.",
            )
        own, calibrated = task_run.subject, calibration(task_run, n, seed, exclude=exclude or ())
    else:
        own, calibrated = with_own_processor(subject), as_calibration(data)
    found = fit_constants(fix, own, calibrated)
    patch(own, found).remove()
    if guard and isinstance(calibrated, TaskCalibration) and not getattr(found, "neutral", False):
        _refuse_losses(found, calibrated, seed)
    return found


def fit_constants(fix: Any, subject: Subject, data: Calibration) -> Any:
    """The fitted fix; one that changes nothing where nothing was found. It has not been installed.

    Raises:
        InputError: the data are too few, or lack the answers that the fix is judged by.
        FixError: the fix cannot be fitted on this model.
    """
    with without_dropout(subject.model):
        return fix.fit(subject, data)


def _refuse_losses(fix: Any, data: TaskCalibration, seed: int) -> None:
    """Raise FixError where the fix clearly loses what the task guards, on the examples it was fitted on."""
    task_run = data.task_run
    before = task_run.run().frame
    with patch(task_run.subject, fix):
        lost = fallen_between(task_run.task, before, task_run.run().frame, seed)
    if lost:
        raise FixError(
            f"What was found for {type(fix).__name__} costs too much on the examples it was fitted on.",
            evidence="; ".join(lost.values()),
            remedy="Fit on other data or with other options, or take it nevertheless: guard=False (--no-guard).",
        )


def fit_missing(fixes: Sequence[Any], subject: Subject, data: Calibration) -> tuple[Any, ...]:
    """Fixes that act together, those that lack constants fitted: one by one, each on the model without a fix."""
    return tuple(fit_constants(fix, subject, data) if needs_fit(fix, subject) else fix for fix in fixes)


def needs_fit(fix: Any, subject: Subject) -> bool:
    """True for a fix that lacks constants and has a way to find them.

    Raises:
        FixError: it can never be used on this model.
    """
    return callable(getattr(fix, "fit", None)) and bool(missing_constants(fix, subject.model))


def bind_complete(arm: Arm, subject: Subject) -> Arm:
    """The arm with its fixes as they are installed on the model; those that need a fit stay as they are.

    Raises:
        FixError: a fix cannot be used on this model.
        NotFitted: constants are missing that no fit finds.
    """
    fixes = list(arm.fixes)
    complete = [index for index, fix in enumerate(fixes) if not needs_fit(fix, subject)]
    if complete:
        with patch(subject, [fixes[index] for index in complete]) as handle:
            for index, fix in zip(complete, handle.fixes, strict=True):
                fixes[index] = fix
    return replace(arm, fixes=tuple(fixes))
