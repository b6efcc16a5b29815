"""`compare`: the same examples without a fix and with each of several, and what differs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import HeadwiseWarning
from headwise.evaluation.comparison._fit import bind_complete, fit_missing, needs_fit
from headwise.evaluation.comparison.arms import describe, parse_arms
from headwise.evaluation.comparison.calibration import calibration
from headwise.evaluation.comparison.guards import fallen, guard_metrics, paired
from headwise.evaluation.replies import empty_counts
from headwise.evaluation.results.arm import NONE, Arm, Cost
from headwise.evaluation.results.comparison import Comparison
from headwise.evaluation.results.consistency import changed_rows
from headwise.evaluation.results.scores import SCORES, score_columns
from headwise.evaluation.statistics.multiple import adjusted, check_smallest_effect, of_finding, out_of_reach
from headwise.evaluation.statistics.paired import N_PERMUTATIONS
from headwise.evaluation.task import Metric, mean
from headwise.evaluation.task_run import BATCH, Progress, TaskOutputs, TaskRun, estimates
from headwise.fixes.patching import patch

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from headwise.evaluation.task import Task
    from headwise.subject import Subject


def compare(
    subject: Subject | PreTrainedModel,
    task: Task | str,
    fixes: Any,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    calibrate: int = 200,
    guard: bool = True,
    smallest_effect: float | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Score a model on a task without a fix and with each of several, over the same examples.

    A fix whose constants are not known for this model is fitted first, on examples of the task's validation split
    that are not compared; several that act together are fitted one by one, each on the model without a fix. The
    comparison says what was fitted on what. What a fix that comes fitted was fitted on is not checked: see `hw.fit`.

    Args:
        subject: the model with its processor. Patches that are on it count in every arm.
        task: a task, or the name of one.
        fixes: a list of arms: a fix, a name such as "VAR" or "VAR:p=0.4", the path of a spec, or a list of these
            that act together. Or a mapping label -> arm. The model without a fix is always the first arm, "none".
        n: how many examples; None takes all of a file, or the task's own number of a generator.
        seed: chooses the examples, and the resamples and exchanges of the statistics.
        batch_size: examples of like length that are run together.
        calibrate: examples of the validation split to fit on, where a fix needs it.
        guard: False lets an arm be the `best` that clearly lost what the task guards (`Task.guards`: recall, length,
            what can be read), or whose replies are empty, repeat the question, or are always the same.
        smallest_effect: the smallest difference worth having in the task's first metric, in its unit: what is
            significant and smaller is said, but is not called clear, and never the `best`. None takes what the task
            names (`Metric.smallest_effect`, 0 for those of headwise).
        progress: told after every batch how many responses are there, and of how many.

    Returns:
        Every arm's responses and scores, metrics with 95 % intervals, paired differences with intervals and p (Holm's
        rule over arms and metrics), costs, and the manifest.

    Warns:
        HeadwiseWarning: before anything is asked, where so few examples and so many arms can show no difference at
            all, whatever the fixes do.

    Raises:
        InputError: there is no such task or fix, no fix at all, two arms have one label, the model cannot be asked,
            or there are too few examples to compare or to fit on.
        FixError: a fix cannot be used on this model. Nothing has been asked by then, and the model is untouched.

    Example:
        >>> import headwise as hw
        >>> silent = hw.fixes.ZeroHeads(heads=[(layer, head) for layer in range(4) for head in range(4)])
        >>> found = hw.compare(hw.load("zoo:lm"), "recall", {"silent": silent}, n=20)
        >>> found["silent"].main.value < 0
        True
    """
    check_smallest_effect(smallest_effect)
    task_run = TaskRun.create(subject, task, batch_size=batch_size)
    own = task_run.subject
    arms = [bind_complete(arm, own) for arm in parse_arms(fixes, own)]
    to_fit = [index for index, arm in enumerate(arms) if any(needs_fit(fix, own) for fix in arm.fixes)]
    task_run = task_run.draw(n, seed)
    fitted: dict[str, Any] = {"on": None, "ids": [], "fixes": {}}
    data = calibration(task_run, calibrate, seed, exclude=task_run.examples) if to_fit else None
    reach = _out_of_reach(task_run, len(arms))
    if reach:
        warnings.warn(
            HeadwiseWarning(f"{reach[0].upper()}{reach[1:]}. Ask more, or compare fewer arms."), stacklevel=2
        )
    if data is not None:
        fitted |= {"on": data.name, "ids": data.ids, "left_out": data.left_out}
        for index in to_fit:
            before = arms[index]
            arm = replace(before, fixes=fit_missing(before.fixes, own, data))
            new = [fix for fix, old in zip(arm.fixes, before.fixes, strict=True) if fix is not old]
            fitted["fixes"][arm.label] = list(map(describe, new))
            arms[index] = bind_complete(arm, own)
    return compare_arms(
        task_run,
        arms,
        seed=seed,
        call={"n": n, "seed": seed},
        fitted=fitted,
        guard=guard,
        smallest_effect=smallest_effect,
        progress=progress,
    )


def compare_arms(
    task_run: TaskRun,
    arms: Sequence[Arm],
    *,
    seed: int,
    call: Mapping[str, Any],
    fitted: Mapping[str, Any],
    guard: bool = True,
    smallest_effect: float | None = None,
    effect_in: str = "",
    progress: Progress | None = None,
) -> Comparison:
    """The task without a fix, then once per arm, and what differs.

    Args:
        task_run: the task with its examples, and the model.
        arms: the fixes, bound to the model.
        seed: of resamples and exchanges.
        call: what the manifest says of the call.
        fitted: what it says of the fits.
        guard: whether an arm that clearly lost a guard metric can be the best, see `compare`.
        smallest_effect: see `compare`.
        effect_in: the metric whose smallest effect it is; the first one where it is left empty.
        progress: told how many responses are there, and of how many.
    """
    import pandas as pd

    runs = _run(task_run, arms, progress)
    metrics = _metrics(task_run)
    if smallest_effect is not None:
        effect_in = effect_in or metrics[0].name
        metrics = tuple(
            replace(item, smallest_effect=float(smallest_effect)) if item.name == effect_in else item
            for item in metrics
        )
    frames = [run.frame for run in runs]
    names = [metric.name for metric in metrics]
    scored = _scored(metrics, arms, runs, seed)
    manifest = task_run.manifest(runs[0], **call)
    manifest[SCORES] = score_columns(metrics)
    manifest["fixes"] = {arm.label: [describe(fix) for fix in arm.fixes] for arm in arms}
    manifest["fitted"] = dict(fitted)
    manifest["leaks_future"] = [arm.label for arm in scored if arm.leaks_future]
    manifest["statistics"] = {
        "interval": "95 %; of each number and of each difference as its method says",
        "p": f"paired permutation test, two-sided, at most {N_PERMUTATIONS} exchanges; Holm over {len(arms)} arms "
        f"and {', '.join(of_finding(names))}; other metrics over all {len(arms) * len(names)} tests",
        "smallest_effect": {
            metric.name: metric.smallest_effect for metric in metrics if metric.smallest_effect
        },
        "out_of_reach": _out_of_reach(task_run, len(arms)),
    }
    manifest["guards"] = {
        "heeded": guard,
        "metrics": [metric.name for metric in guard_metrics(task_run.task)],
        "fallen": {
            arm.label: fallen(task_run.task, frames[0], frame, arm.differences) | _ahead(task_run.task, arm)
            for arm, frame in zip(scored[1:], frames[1:], strict=True)
        },
    }
    if task_run.written:
        replies = {
            arm.label: empty_counts(frame)["replies"] for arm, frame in zip(scored, frames, strict=True)
        }
        manifest["empty"] = {**manifest["empty"], "replies": replies}
    manifest["seconds"] = {arm.label: round(arm.cost.seconds, 3) for arm in scored}
    rows = [frame.assign(arm=arm.label) for arm, frame in zip(scored, frames, strict=True)]
    frame = pd.concat(rows, ignore_index=True)
    return Comparison(task_run.task.title, scored, frame[["arm", *frames[0].columns]], manifest)


def _run(task_run: TaskRun, arms: Sequence[Arm], progress: Progress | None) -> list[TaskOutputs]:
    """Outputs without a fix, and of every arm."""
    total = len(task_run.examples) * (1 + len(arms))
    # what only the first call has to do is done before the clock runs
    task_run.with_examples(task_run.examples[: task_run.batch_size]).run()
    runs: list[TaskOutputs] = []
    for fixes in ((), *(arm.fixes for arm in arms)):
        before = len(runs) * len(task_run.examples)

        def on_batch(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        with patch(task_run.subject, fixes) if fixes else nullcontext():
            runs.append(task_run.run(on_batch))
    return runs


def _metrics(task_run: TaskRun) -> tuple[Metric, ...]:
    """Those of the task; and the length of what is written, which no score should be read without."""
    metrics = task_run.task.metrics
    if not task_run.written or any(metric.name == "tokens" for metric in metrics):
        return metrics
    return (*metrics, mean("tokens", unit="tokens", higher_is_better=None))


def _ahead(task: Task, arm: Arm) -> dict[str, str]:
    """Why a gain is none where whole texts are scored and a fix lets rows use what comes after them."""
    scores_texts = task.solver.manifest().get("asked") == "likelihood"
    return {"future": "reads the future"} if arm.leaks_future and scores_texts else {}


def _out_of_reach(task_run: TaskRun, arms: int) -> str:
    """Why no difference can be found, whatever the arms do; empty where one can."""
    column = task_run.groups.column
    units = len(task_run.examples) if column is None else len(set(column))
    names = [metric.name for metric in _metrics(task_run)]
    return out_of_reach(units, arms, names, grouped=column is not None)


def _scored(
    metrics: Sequence[Metric], arms: Sequence[Arm], runs: Sequence[TaskOutputs], seed: int
) -> tuple[Arm, ...]:
    """The arm without a fix and the others, with their numbers."""
    base, *others = runs
    changes = [[paired(metric, base.frame, run.frame, seed) for metric in metrics] for run in others]
    scored = [Arm(NONE, estimates(metrics, base.frame, seed), {}, _cost(base, base))]
    for arm, run, row in zip(arms, others, adjusted(changes), strict=True):
        repaired, broken = _flips(metrics[0], base.frame, run.frame)
        scored.append(
            replace(
                arm,
                estimates=estimates(metrics, run.frame, seed),
                differences={item.metric: item for item in row},
                cost=_cost(run, base),
                changed=changed_rows(base.frame, run.frame),
                repaired=repaired,
                broken=broken,
                leaks_future=any(bool(getattr(fix, "leaks_future", False)) for fix in arm.fixes),
            )
        )
    return tuple(scored)


def _flips(metric: Metric, before: pd.DataFrame, after: pd.DataFrame) -> tuple[int | None, int | None]:
    """Wrong that became right, and right that became wrong; None where the first metric is no share of right ones."""
    if len(metric.columns) != 1 or metric.where is not None:
        return None, None
    one, two = (frame[metric.columns[0]].to_numpy(dtype=float) for frame in (before, after))
    if not np.isin([one, two], (0, 1)).all():
        return None, None
    up, down = int((two > one).sum()), int((two < one).sum())
    return (up, down) if metric.higher_is_better else (down, up)


def _cost(run: TaskOutputs, base: TaskOutputs) -> Cost:
    units = [outputs.tokens or len(outputs.frame) for outputs in (run, base)]
    wall, cpu = (
        (taken / units[0]) / (usual / units[1]) if usual > 0 else float("nan")
        for taken, usual in ((run.seconds, base.seconds), (run.cpu_seconds, base.cpu_seconds))
    )
    return Cost(run.seconds, run.cpu_seconds, run.tokens, wall, cpu)
