"""`search`: the strength of a fix, chosen on validation examples and judged once on test examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.comparison._compare import compare_arms
from headwise.evaluation.comparison._fit import bind_complete, fit_constants, needs_fit
from headwise.evaluation.comparison.arms import describe, parse_arms
from headwise.evaluation.comparison.calibration import TaskCalibration, calibration
from headwise.evaluation.comparison.guards import fallen_between
from headwise.evaluation.comparison.space import Bounds, Space, space_of
from headwise.evaluation.results.search import Search
from headwise.evaluation.statistics.multiple import check_smallest_effect
from headwise.evaluation.task import Metric, Task
from headwise.evaluation.task_run import BATCH, Progress, TaskRun
from headwise.fixes.patching import patch
from headwise.optional import extra

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


def search(
    subject: Subject | PreTrainedModel,
    task: Task | str,
    fix: Any,
    *,
    trials: int = 20,
    n: int | None = None,
    seed: int = 0,
    space: Bounds | None = None,
    metric: str | None = None,
    batch_size: int = BATCH,
    calibrate: int = 200,
    guard: bool = True,
    smallest_effect: float | None = None,
    progress: Progress | None = None,
) -> Search:
    """Search the strength of a fix on a task's validation split, and judge the best setting once on its test split.

    The first trial is no change at all, the second the fix as it was given; the others are drawn by Optuna's
    tree-structured Parzen estimator (Bergstra et al. 2011). A setting must be better than no change to be judged.
    A setting that clearly loses what the task guards (recall, length, what can be read) is left out, too.

    Of a file, settings are tried on its validation split, a fifth by hashed content, and on nothing that shares a
    picture, sound or text with the test examples.

    Args:
        subject: the model with its processor; patches that are on it count throughout.
        task: a task, or the name of one.
        fix: a fix, or its name with options. One that needs fitting is fitted first, on the validation examples.
        trials: settings to try, the first of which is no change.
        n: test examples, as for `hw.compare`.
        seed: chooses the examples and the settings.
        space: parameter -> (low, high); what the fix itself names when left out.
        metric: the name of the metric to choose by; the task's first one when left out.
        batch_size: examples that are run together.
        calibrate: validation examples that every setting is tried on.
        guard: False lets a setting be the best that clearly loses what the task guards, see `hw.compare`.
        smallest_effect: the smallest difference worth having in the metric to choose by, see `hw.compare`: a setting
            that gains less on the validation examples is not judged, and a smaller judgement is not called clear.
        progress: told how many settings were tried, and of how many.

    Raises:
        InputError: optuna is not installed, the task, metric or space is unknown, or there are too few examples.
        FixError: the fix cannot be used on this model, or not over the whole space.

    Example:
        >>> import headwise as hw
        >>> head = hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5)
        >>> found = hw.search(hw.load("zoo:lm"), "recall", head, space={"factor": (0, 2)}, trials=3, n=20, calibrate=20)
        >>> found.frame["factor"].head(2).tolist()
        [1.0, 0.5]
    """
    optuna = extra("optuna", "Strengths are searched", group="search")
    check_smallest_effect(smallest_effect)
    if trials < 2:
        raise InputError("The first trial is no change.", evidence=f"trials={trials}", remedy="Take 20.")
    task_run = TaskRun.create(subject, task, batch_size=batch_size)
    chosen = _metric(task_run.task, metric)
    effect = chosen.smallest_effect if smallest_effect is None else float(smallest_effect)
    (arm,) = parse_arms([fix], task_run.subject)
    if len(arm.fixes) != 1:
        raise InputError("One fix is searched at a time.", evidence=arm.label, remedy="Give one.")
    plan = space_of(arm.fixes[0], space)
    bind_complete(arm, task_run.subject)
    to_fit = needs_fit(plan.fix, task_run.subject)
    task_run = task_run.draw(n, seed)
    data = calibration(task_run, calibrate, seed, exclude=task_run.examples)
    if to_fit:
        plan = Space(fit_constants(plan.fix, task_run.subject, data), plan.bounds)
    with _quiet(optuna):
        rows = list(
            _trials(optuna, plan, data, chosen, trials=trials, seed=seed, guard=guard, progress=progress)
        )
    sign = -1 if chosen.higher_is_better is False else 1
    refused = {number: row["costs"] for number, row in enumerate(rows) if row["costs"]}
    ranked = [
        sign * row["value"] if isfinite(row["value"]) and number not in refused else -float("inf")
        for number, row in enumerate(rows)
    ]
    place = max(range(len(rows)), key=ranked.__getitem__)  # the first of equals
    too_small = sign * (rows[place]["value"] - rows[0]["value"]) < effect
    best = rows[place]["setting"] if place > 0 and not rows[place]["neutral"] and not too_small else None
    manifest: dict[str, Any] = {
        **task_run.manifest(n=n, seed=seed),
        "fix": describe(plan.fix),
        "fitted_on": data.name if to_fit else None,
        "space": {name: list(span) for name, span in plan.bounds.items()},
        "sampler": f"optuna {optuna.__version__}, TPESampler, seed {seed}",
        "validation": data.name,
        "validation_ids": data.ids,
        "left_out": data.left_out,
        "unit": chosen.unit,
        "smallest_effect": effect,
        "best_trial": place,
        "refused": {str(number): costs for number, costs in refused.items()},
    }
    winner = comparison = None
    if best is not None:
        winner = plan.at(best)
        (arm,) = parse_arms([winner], task_run.subject)
        comparison = compare_arms(
            task_run,
            [bind_complete(arm, task_run.subject)],
            seed=seed,
            call={"n": n, "seed": seed},
            fitted={"on": None, "ids": [], "fixes": {}},
            guard=guard,
            smallest_effect=effect,
            effect_in=chosen.name,
        )
        winner = comparison.arms[1].fixes[0]
    frame = _frame(rows, plan, chosen.name)
    kind = type(plan.fix).__name__
    return Search(task_run.task.title, chosen.name, kind, frame, best, winner, comparison, manifest)


def _trials(
    optuna: Any,
    plan: Space,
    data: TaskCalibration,
    metric: Metric,
    *,
    trials: int,
    seed: int,
    guard: bool,
    progress: Progress | None,
) -> Iterator[dict[str, Any]]:
    """The settings with their values, no change first."""
    direction = "minimize" if metric.higher_is_better is False else "maximize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
    distributions = plan.distributions()
    before = data.task_run.run().frame
    unchanged = metric.compute(metric.select(before))
    if plan.neutral is not None and isfinite(unchanged):
        known = optuna.trial.create_trial(params=plan.neutral, distributions=distributions, value=unchanged)
        study.add_trial(known)
    if plan.given is not None and plan.given != plan.neutral:
        study.enqueue_trial(plan.given)
    yield {"setting": plan.neutral or {}, "value": unchanged, "neutral": True, "costs": []}
    for done in range(1, trials):
        if progress is not None:
            progress(done, trials)
        trial = study.ask(distributions)
        fix = plan.at(trial.params)
        with patch(data.task_run.subject, fix):
            frame = data.task_run.run().frame
        value = metric.compute(metric.select(frame))
        lost = fallen_between(data.task_run.task, before, frame, seed) if guard else {}
        costs = [text for name, text in lost.items() if name != metric.name]
        if isfinite(value) and not costs:
            study.tell(trial, value)
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        yield {
            "setting": dict(trial.params),
            "value": value,
            "neutral": bool(getattr(fix, "neutral", False)),
            "costs": costs,
        }
    if progress is not None:
        progress(trials, trials)


def _frame(rows: list[dict[str, Any]], plan: Space, metric: str) -> Any:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "trial": number,
                **{name: row["setting"].get(name, float("nan")) for name in plan.bounds},
                metric: row["value"],
            }
            for number, row in enumerate(rows)
        ]
    )


def _metric(task: Task, name: str | None) -> Metric:
    known: Mapping[str, Metric] = {metric.name: metric for metric in task.metrics}
    name = name or task.metrics[0].name
    if name not in known or known[name].higher_is_better is None:
        better = [item.name for item in known.values() if item.higher_is_better is not None]
        raise InputError(
            f"{task.title} cannot be searched by {name!r}.",
            evidence=f"choose among: {', '.join(better) or 'none'}",
        )
    return known[name]


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """No log lines of Optuna inside the block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
