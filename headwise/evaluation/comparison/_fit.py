"""Find the constants of a fix for a model, on examples that it is never judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError, NotFitted
from headwise.evaluation.comparison.calibration import apart
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
    spare: int | None = None,
    batch_size: int = BATCH,
) -> Any:
    """The fix with its constants found for this model; the model stays as it is.

    A score on the examples that a fix was fitted on is too good. A task of the zoo's own data has a validation split
    for fits, and its test split is what `hw.compare` asks. One over a file, a text or clips has not: there `spare`
    says what must be left out.

    Args:
        subject: the model with its processor.
        fix: a fix that can be fitted (ACT, VAR), or its name with options, such as "ACT:beta=0.3".
        data: a task or the name of one; or prompts: texts, or keyword arguments of `Subject.prepare`, which are all
            used. Fixes that are judged by answers need a task.
        n: examples of the task's validation split, or of those that are not spared.
        seed: chooses the examples.
        spare: how many examples of this task will be compared with the same seed, as the `n` of `hw.compare`: none
            of them is fitted on, nor another one with the same picture, sound or text. 0 if none will be. Tasks with
            a validation split need none.
        batch_size: examples that are run together.

    Returns:
        A fix of the same class, ready for `hw.patch`, `hw.compare` and `hw.save_spec`. Where nothing was found that
        helps, it changes nothing (`neutral`), and its `source` says so.

    Raises:
        InputError: the name or the task is unknown, the task has too few examples, or no validation split while
            `spare` is None, or there are too few prompts.
        FixError: the fix has nothing to fit, cannot be fitted on this model, or what was found cannot be installed.

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
        return fitted(fix, questions.subject, apart(questions, n, seed, spare))
    if spare is not None:
        raise InputError(
            "Prompts are all used, and none is spared.",
            evidence=f"spare={spare}",
            remedy="Leave spare out, or give a task.",
        )
    return fitted(fix, with_own_processor(subject), as_calibration(data))


def fitted(fix: Any, subject: Subject, data: Calibration) -> Any:
    """The fitted fix, which has been seen to fit the model; one that changes nothing where nothing was found.

    Raises:
        InputError: the data are too few, or lack the answers that the fix is judged by.
        FixError: the fix cannot be fitted on this model, or what it found cannot be installed.
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
