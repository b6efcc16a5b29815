"""What a gain must not have cost: guard metrics that fell, replies that hold nothing to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.evaluation.data.groups import groups_in
from headwise.evaluation.replies import all_alike, empty, repeated
from headwise.evaluation.statistics.paired import ALPHA, Difference, difference

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from headwise.evaluation.task import Metric, Task

SHORTER = 0.1
"""Share of a length that may be lost: what is no longer invented is no longer said."""


def guard_metrics(task: Task) -> tuple[Metric, ...]:
    """Metrics that must not fall while another one gains: the task's first, and those in its `guards`.

    Raises:
        InputError: a guard is no metric of the task.
    """
    known = {metric.name: metric for metric in task.metrics}
    for name in task.guards:
        if name not in known:
            raise InputError(
                f"{task.title} has no metric {name!r} to guard a gain.",
                evidence=f"it has: {', '.join(known)}",
                remedy="Name some of these in guards.",
            )
    first = task.metrics[0]
    names = (*([] if first.higher_is_better is None else [first.name]), *task.guards)
    return tuple(known[name] for name in dict.fromkeys(names))


def paired(metric: Metric, before: pd.DataFrame, after: pd.DataFrame, seed: int) -> Difference:
    """The difference of a metric between two per-example tables of the same examples."""
    rows = metric.applies(before) & metric.applies(after)
    one, two = (metric.select(frame[rows]) for frame in (before, after))
    return difference(metric, one, two, seed=seed, groups=groups_in(before, rows))


def fallen(
    task: Task, before: pd.DataFrame, after: pd.DataFrame, changes: Mapping[str, Difference]
) -> dict[str, str]:
    """What clearly got worse: name of the guard -> how; "replies" for replies that hold nothing to judge.

    A guard with a better direction has fallen where p of its loss is below 0.05 (as it is: an adjusted p would let
    more pass, the more arms there are), a length where the
    whole interval lies below nine tenths of what it was, and either where it is infinite or no longer defined (0 of 0).

    Args:
        task: whose guards.
        before: the per-example table without a fix.
        after: the same with it.
        changes: guard metric -> its difference.
    """
    found = {}
    for metric in guard_metrics(task):
        start, end = (metric.compute(metric.select(frame)) for frame in (before, after))
        change = changes[metric.name]
        rows = metric.applies(before) & metric.applies(after)
        lost = [
            frame.loc[rows, list(metric.columns)].isna().any(axis=1).to_numpy() for frame in (before, after)
        ]
        if not isfinite(change.value):
            if isfinite(start) and not isfinite(end):
                found[metric.name] = f"{metric.name} {'undefined (0 of 0)' if isnan(end) else 'infinite'}"
            elif isfinite(start):
                found[metric.name] = f"{metric.name} undefined on every example that had it"
        elif _more(*lost):
            found[metric.name] = f"{metric.name} undefined on {lost[1].sum()} of {len(lost[1])} examples"
        elif change.high < -SHORTER * start if metric.higher_is_better is None else _worse(change):
            found[metric.name] = f"{metric.name} {change.value:+.3f}"
    asked = task.solver.manifest().get("asked")
    said = _said(before, after) if asked == "generate" else ""
    if not said and asked in ("generate", "choose") and len(after) > 1 and all_alike(after):
        said = "one reply to everything"
    return {**found, **({"replies": said} if said else {})}


def fallen_between(task: Task, before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict[str, str]:
    """The same where no differences are there yet."""
    changes = {metric.name: paired(metric, before, after, seed) for metric in guard_metrics(task)}
    return fallen(task, before, after, changes)


def _worse(change: Difference) -> bool:
    return change.p < ALPHA and change.gain < 0


def _said(before: pd.DataFrame, after: pd.DataFrame) -> str:
    for holds, what in ((empty, "are empty"), (repeated, "repeat the question")):
        one, two = holds(before), holds(after)
        if _more(one, two):
            return f"{two.sum()} of {len(two)} replies {what}"
    return ""


def _more(before: Sequence[bool] | np.ndarray, after: Sequence[bool] | np.ndarray) -> bool:
    """True where clearly more became true than untrue, by the exact test of McNemar."""
    from scipy.stats import binomtest

    up = sum(two and not one for one, two in zip(before, after, strict=True))
    down = sum(one and not two for one, two in zip(before, after, strict=True))
    return up > down and binomtest(up, up + down).pvalue < ALPHA
