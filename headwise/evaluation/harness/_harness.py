"""Run tasks of lm-evaluation-harness on a model, with and without fixes."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.comparison.arms import describe, parse_arms
from headwise.evaluation.harness.guard import set_aside, translate_errors
from headwise.evaluation.harness.model import as_harness_model, require_harness, require_texts
from headwise.evaluation.harness.result import HarnessResult, tabulated
from headwise.evaluation.harness.table import missing_metrics
from headwise.evaluation.harness.tasks import asked_metrics, load_tasks, read_tasks
from headwise.evaluation.harness.templates import sandbox
from headwise.evaluation.results.arm import NONE, Arm
from headwise.evaluation.statistics.intervals import RESAMPLES
from headwise.evaluation.task_run import model_record, versions_of, without_dropout
from headwise.fixes.patching import patch
from headwise.subject import Subject, wrap
from headwise.subject.chat import bounded_chats

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AS_CODE = "Task files were taken as code (allow_code): they could run and read anything, and fetch it."
"""What is said of a run that could do more than read data."""
_PACKAGES = ("headwise", "lm_eval", "datasets", "torch", "transformers", "numpy", "scipy")


def harness(
    subject: Subject | PreTrainedModel,
    tasks: str | Path | Sequence[str | Path],
    *,
    fixes: Any | Sequence[Any] | Mapping[str, Any] | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    batch_size: int = 16,
    seed: int = 0,
    allow_code: bool = False,
) -> HarnessResult:
    """Score a language model on tasks of lm-evaluation-harness, as it is and with fixes on it.

    The harness (Gao et al., "A framework for few-shot language model evaluation") has tasks with names, whose data
    it downloads, and reads task files of one's own, which need no network: docs/harness.md has one. A task file is
    data: it is refused, before anything of it is opened, if it asks for more than texts to fill in and files beside
    it.

    The model stays the object it is, and is afterwards as before; random states of Python, NumPy and torch too.

    Args:
        subject: a decoder of text with its tokenizer. A patch that is on the model counts, in every arm.
        tasks: names of the harness's tasks, groups and tags, or paths: of a task file (`.yaml`), of a folder with
            such files (every task below). A name of a folder needs a separator: `./tasks`.
        fixes: None runs the model as it is. Otherwise that is the first arm, "none", before a list of others: a fix,
            a name such as "ZERO_HEADS", the path of a spec, or a list of these that act together; or a mapping label
            -> arm.
        limit: only the first so many examples of every task.
        num_fewshot: solved examples before every question, where the task leaves that open.
        apply_chat_template: write prompts with the tokenizer's chat template.
        batch_size: prompts that are run together.
        seed: of the choice of solved examples, of sampling, of intervals.
        allow_code: run the Python that task files name (`!function`), and let them read and fetch what they ask for.

    Returns:
        The harness's metrics with their standard errors, every example's response, and what each fix changes.

    Raises:
        InputError: the harness is not installed, the model does not continue texts, a task is unknown or malformed,
            asks for code without `allow_code`, its data or a metric is missing, the harness gives none of its metrics,
            or stops at an error.
        FixError: a fix does not fit the model.
    """
    if not isinstance(subject, Subject):
        subject = wrap(subject)
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} counts examples.", evidence=f"{name}={value}", remedy="Give 1 or more.")
    require_texts(subject)
    arms = [] if fixes is None else parse_arms(fixes, subject)
    lm_eval = require_harness()
    with set_aside():  # parts of the harness draw random numbers as they are imported
        wanted = read_tasks(tasks, allow_code=allow_code)
        for arm in arms:
            patch(subject, arm.fixes).remove()  # what does not fit is refused before anything has run
    as_code = bool(wanted.files) and allow_code
    if as_code:
        warnings.warn(AS_CODE, stacklevel=2)
    call = {"limit": limit, "batch_size": batch_size, "seed": seed}
    call |= {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template, "allow_code": allow_code}
    runs: dict[str, Any] = {}
    absent: list[str] = []
    seconds: dict[str, float] = {}
    bounded = bool(wanted.files) and not allow_code
    with (
        set_aside() as warned,
        without_dropout(subject.model),
        sandbox(bounded=bounded),
        bounded_chats(subject),
    ):
        model = as_harness_model(subject, batch_size=batch_size)
        del warned[:]  # HFLM warns of every model that is no name
        loaded = load_tasks(wanted, logged=warned)
        for arm in (Arm(NONE), *arms):
            _set_up(loaded["tasks"].values(), num_fewshot, seed)
            started = time.perf_counter()
            with (
                translate_errors(
                    "The harness stopped at an error.", remedy="Check the task and its data.", logged=warned
                ),
                patch(subject, arm.fixes) if arm.fixes else nullcontext(),
            ):
                runs[arm.label] = lm_eval.evaluate(
                    lm=model,
                    task_dict=loaded,
                    limit=limit,
                    bootstrap_iters=RESAMPLES,
                    apply_chat_template=apply_chat_template,
                    fewshot_as_multiturn=apply_chat_template,
                )
            if arm.label == NONE:
                absent = missing_metrics(asked_metrics(loaded), runs[NONE])
            seconds[arm.label] = round(time.perf_counter() - started, 3)
    for note in absent:
        warnings.warn(note, stacklevel=2)
    manifest = _manifest(subject, runs[NONE], **call)
    manifest["fixes"] = {arm.label: [describe(fix) for fix in arm.fixes] for arm in arms}
    manifest["leaks_future"] = [
        arm.label for arm in arms if any(getattr(fix, "leaks_future", False) for fix in arm.fixes)
    ]
    said = [*subject.warnings, *([AS_CODE] if as_code else []), *absent, *warned]
    manifest |= {"warnings": said, "seconds": seconds}
    return tabulated(runs, manifest, loaded["tasks"], seed=seed)


def _set_up(tasks: Iterable[Any], num_fewshot: int | None, seed: int) -> None:
    """Seeds and solved examples of a run: what `lm_eval.simple_evaluate` sets before it calls `evaluate`.

    That function is not called itself: it starts git and other programs to describe the machine.
    """
    from transformers import set_seed

    set_seed(seed)
    for task in tasks:
        own = task.get_config("num_fewshot")
        if own is None or (num_fewshot is not None and own != 0):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
        task.set_fewshot_seed(seed=seed)


def _manifest(subject: Subject, results: Mapping[str, Any], **call: Any) -> dict[str, Any]:
    configs = json.loads(json.dumps(results["configs"], default=str))
    for config in configs.values():
        if not call["allow_code"]:
            config.pop("custom_dataset", None)  # headwise's own reader
    return {
        "tasks": configs,
        **call,
        "statistics": f"standard errors: the harness's (bootstrap, {RESAMPLES} resamples, where it has no formula)",
        "model": model_record(subject),
        "versions": versions_of(_PACKAGES),
    }
