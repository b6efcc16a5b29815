"""Find the constants of a fix for a model, on examples that it is never judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, NotFitted
from headwise.evaluation.calibration import calibration
from headwise.evaluation.questions import BATCH, Questions, with_own_processor, without_dropout
from headwise.evaluation.task import Task
from headwise.fixes.patching import bound, patch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.fixes.calibration import Calibration
    from headwise.subject import Subject


def fit(
    subject: Subject | PreTrainedModel,
    fix: Any,
    data: Task | str | Sequence[str | Mapping[str, Any]],
    *,
    n: int = 200,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Any:
    """The fix with its constants found for this model; the model stays as it is.

    Args:
        subject: the model with its processor.
        fix: a fix that can be fitted (ACT, VAR), or its name with options, such as "ACT:beta=0.3".
        data: a task or the name of one, whose validation split is used; or prompts: texts, or keyword arguments of
            `Subject.prepare`. Fixes that are judged by answers need a task.
        n: examples of the validation split. Prompts are all used.
        seed: chooses the examples.
        batch_size: examples that are run together.

    Returns:
        A fix of the same class, ready for `hw.patch`, `hw.compare` and `hw.save_spec`.

    Raises:
        InputError: the name or the task is unknown, the task has too few examples, or there are no prompts.
        FixError: the fix has nothing to fit, or nothing could be found.

    Example:
        >>> import headwise as hw
        >>> hw.fit(hw.load("zoo:lm"), hw.fixes.ZeroHeads(heads=((0, 1),)), "recall", n=10)
        Traceback (most recent call last):
        ...
        headwise.errors.FixError: ZeroHeads has nothing to fit. ...
    """
    from headwise.fixes.calibration import as_calibration

    if isinstance(fix, str):
        from headwise.fixes.registry import parse_fix

        fix = parse_fix(fix)
    if isinstance(fix, list | tuple) or not callable(getattr(fix, "fit", None)):
        raise FixError(
            f"{'A list' if isinstance(fix, list | tuple) else type(fix).__name__} has nothing to fit.",
            evidence="only a fix with a method fit has",
            remedy="Install it as it is: hw.patch(subject, fix).",
        )
    if isinstance(data, Task | str):
        questions = Questions.of(subject, data, batch_size=batch_size)
        return fitted(fix, questions.subject, calibration(questions, n, seed))
    return fitted(fix, with_own_processor(subject), as_calibration(data))


def fitted(fix: Any, subject: Subject, data: Calibration) -> Any:
    """The fitted fix, which has been seen to fit the model.

    Raises:
        FixError: the fix found nothing, or what it found cannot be installed.
    """
    with without_dropout(subject.model):
        found = fix.fit(subject, data)
    patch(subject, found).remove()
    return found


def ready(
    fixes: Sequence[Any], subject: Subject, data: Calibration | None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The fixes, those that need it fitted one by one on the model without a fix; and those that were fitted.

    Args:
        fixes: what is to act together.
        subject: the model.
        data: what to fit on; None where all are known to be complete.

    Raises:
        FixError: a fix cannot be used on this model, or cannot be fitted.
    """
    complete = tuple(
        fitted(fix, subject, data) if data is not None and lacks(fix, subject) else fix for fix in fixes
    )
    new = tuple(fix for fix, given in zip(complete, fixes, strict=True) if fix is not given)
    with patch(subject, complete) as handle:
        return handle.fixes, new


def lacks(fix: Any, subject: Subject) -> bool:
    """True for a fix that must be fitted before it can be installed.

    Raises:
        FixError: it cannot be used on this model at all, or cannot be fitted either.
    """
    try:
        bound(fix, subject.model)
    except NotFitted:
        if not callable(getattr(fix, "fit", None)):
            raise
        return True
    return False
