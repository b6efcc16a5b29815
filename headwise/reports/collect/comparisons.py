"""Comparisons on the page: before and after with the interval, the table of arms, the replies that changed."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.results.arm import Arm, effect_note, p_text
from headwise.evaluation.results.comparison import Comparison
from headwise.reports.collect.charts import difference_chart
from headwise.reports.content.content import Column, Flip, Headline, ShownComparison, Table
from headwise.reports.content.formatting import Value, show

if TYPE_CHECKING:
    import pandas as pd

    from headwise.evaluation.statistics.estimate import Estimate
    from headwise.evaluation.statistics.paired import Difference
    from headwise.evaluation.task import Task

MOST_FLIPS, MOST_METRICS = 60, 8
BROKEN, REPAIRED, CHANGED = "right → wrong", "wrong → right", "changed"
_ORDER = (BROKEN, REPAIRED, CHANGED)
_RIGHT = ("correct", "exact")
"""Columns that say whether an example is right, by the names that tasks give them."""
_COLUMNS = (
    Column("arm", "fix"),
    Column("metric", "metric"),
    Column("value", "value", "number"),
    Column("interval", "95 % interval"),
    Column("difference", "difference to none"),
    Column("difference_interval", "95 % interval"),
    Column("p", "p (Holm)"),
    Column("repaired", "repaired", "count"),
    Column("broken", "broken", "count"),
    Column("changed", "changed", "count"),
    Column("time", "time per token", "number"),
)


def before_and_after(comparison: Comparison) -> Headline:
    """The number the task is known by, without a fix and with the best one, or with the first if none is better."""
    first, arm = comparison.arms[0], comparison.best or comparison.arms[1]
    change = arm.main
    old, new = first.estimates[change.metric], arm.estimates[change.metric]
    words = "" if change.significant or not change.value else "; that may be chance"
    return Headline(
        f"{_number(old.value, old.unit)} → {_number(new.value, new.unit)}",
        f"{change.metric} of {comparison.task}, without and with {arm.label}",
        f"difference {_signed(change.value, change.unit)}, 95 % interval {_between(change)}, n = {comparison.n}{words}",
        ((("the replies that changed" if arm.changed else "the numbers"), "evaluation"),),
    )


def shown_comparison(comparison: Comparison, number: int) -> ShownComparison:
    """Everything the page says about one comparison."""
    chosen = list(comparison.arms[1].differences)[:MOST_METRICS]
    rows = [_row(arm, metric) for metric in chosen for arm in comparison.arms]
    left = len(comparison.arms[1].differences) - len(chosen)
    more = f" {left} more metrics are in the comparison itself." if left else ""
    note = (
        f"{comparison.task}, n = {comparison.n}, the same examples for every arm. Differences are to the model without "
        "a fix; p by a paired permutation test, adjusted by Holm's rule for all that is tried. “repaired” and “broken” "
        "count examples whose answer became right or wrong, “changed” those with another reply or another score, which "
        f"need not be another answer. {effect_note(comparison.arms[1])}".rstrip()
        + more
    )
    columns = tuple(
        column for place, column in enumerate(_COLUMNS) if any(row[place] not in (None, "") for row in rows)
    )
    kept = [place for place, column in enumerate(_COLUMNS) if column in columns]
    table = Table(
        f"evaluation-{number}",
        f"{comparison.task}, with and without",
        note,
        columns,
        tuple(tuple(row[place] for place in kept) for row in rows),
    )
    flips = [flip for arm in comparison.arms[1:] for flip in _flips(comparison, arm)]
    flips.sort(key=lambda flip: _ORDER.index(flip.kind))
    return ShownComparison(
        comparison.task,
        comparison.summary,
        table,
        tuple(flips[:MOST_FLIPS]),
        max(len(flips) - MOST_FLIPS, 0),
        difference_chart(comparison, chosen[0]),
    )


def _row(arm: Arm, metric: str) -> tuple[Value, ...]:
    own: Estimate = arm.estimates[metric]
    change: Difference | None = arm.differences.get(metric)
    return (
        arm.label,
        metric if own.unit in ("share", "") else f"{metric} ({own.unit})",
        _number(own.value, own.unit),
        _span(own),
        "" if change is None else _signed(change.value, change.unit),
        "" if change is None else _between(change),
        "" if change is None or isnan(change.p_holm) else p_text(change.p_holm),
        arm.repaired,
        arm.broken,
        arm.changed if change is not None else None,
        arm.cost.wall,
    )


def changed_examples(
    comparison: Comparison, task: Task, count: int = 3, *, replies: bool = False
) -> list[dict[str, Any]]:
    """What the first fix changed, to be runs at: inputs of the examples, right → wrong first, then wrong → right.

    Where it changed fewer, examples whose reply stayed the same follow.

    Args:
        comparison: what was asked.
        task: the task it was asked of, with the same options.
        count: how many.
        replies: give what was said without the fix as the `target`, for models with a decoder of their own.

    Returns:
        Keywords of `Subject.prepare`, one mapping per example, for `hw.report(subject, path, examples=…)`; for a task
        of translation also the `languages`, from and to.

    Raises:
        InputError: the task does not have the examples of the comparison.

    Example:
        >>> import headwise as hw
        >>> task = hw.evaluation.find_task("recall")
        >>> found = hw.compare(hw.load("zoo:lm"), task, ["ZERO_HEADS:heads=[[0,0]]"], n=10)
        >>> [sorted(one) for one in changed_examples(found, task, 2)]
        [['text'], ['text']]
    """
    first, arm = comparison.arms[:2]
    frame = comparison.frame[comparison.frame["arm"] == first.label].reset_index(drop=True)
    drawn = {example.id: example for example in task.draw(comparison.n, comparison.manifest["seed"])}
    missing = [name for name in frame["id"] if name not in drawn]
    if missing:
        raise InputError(
            f"{task.title} does not have the examples of this comparison.",
            evidence=f"{len(missing)} of {comparison.n}, such as {missing[0]}",
            remedy="Give the task with the options that were compared.",
        )
    changes = sorted(_changes(comparison, arm), key=lambda change: _ORDER.index(change[1]))
    places = list(dict.fromkeys([place for place, _ in changes] + list(range(comparison.n))))[:count]
    said = _texts(frame, "response")
    found = []
    for place in places:
        example = drawn[frame["id"][place]]
        inputs = dict(example.inputs)
        if replies and said[place]:
            inputs["target"] = said[place]
        if {"source", "target"} <= set(example.metadata):
            inputs["languages"] = (example.metadata["source"], example.metadata["target"])
        found.append(inputs)
    return found


def _flips(comparison: Comparison, arm: Arm) -> list[Flip]:
    """The examples whose reply, or whose being right, an arm changed."""
    old, new = _both(comparison, arm)
    prompts, answers, before, after = (
        _texts(part, name)
        for part, name in ((old, "prompt"), (old, "answer"), (old, "response"), (new, "response"))
    )
    return [
        Flip(arm.label, prompts[place], answers[place], before[place], after[place], kind)
        for place, kind in _changes(comparison, arm)
    ]


def _changes(comparison: Comparison, arm: Arm) -> list[tuple[int, str]]:
    """Where an arm changed the reply or its being right, and how."""
    old, new = _both(comparison, arm)
    right = _right(old, new, arm)
    before, after = (_texts(part, "response") for part in (old, new))
    found = []
    for place in range(len(old)):
        if right is not None and old[right][place] != new[right][place]:
            found.append((place, BROKEN if old[right][place] else REPAIRED))
        elif before[place] != after[place]:
            found.append((place, CHANGED))
    return found


def _both(comparison: Comparison, arm: Arm) -> list[pd.DataFrame]:
    """The rows of the model without a fix, and those of an arm, in the same order."""
    frame = comparison.frame
    return [frame[frame["arm"] == one.label].reset_index(drop=True) for one in (comparison.arms[0], arm)]


def _right(old: pd.DataFrame, new: pd.DataFrame, arm: Arm) -> str | None:
    """The column that says whether an example is right: one of 0 and 1 whose changes are those that the arm counts."""
    if arm.repaired is None:
        return None
    named = [name for name in _RIGHT if name in old]
    numbers = old.select_dtypes(["number", "bool"])
    for name in dict.fromkeys([*named, *numbers]):
        one, two = (part[name].to_numpy(dtype=float) for part in (old, new))
        known = np.isin([one, two], (0, 1)).all()
        if known and (int((two > one).sum()), int((two < one).sum())) == (arm.repaired, arm.broken):
            return str(name)
    return None


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    return (
        ["" if value is None or value != value else str(value) for value in frame[name]]
        if name in frame
        else [""] * len(frame)
    )


def _number(value: float, unit: str) -> str:
    return show(value, "share" if unit == "share" else "number")


def _signed(value: float, unit: str) -> str:
    if isnan(value):
        return "–"
    sign = "−" if value < 0 else "+"
    return f"{sign}{100 * abs(value):.1f} points" if unit == "share" else f"{sign}{abs(value):.3g}"


def _span(own: Estimate) -> str:
    if isnan(own.low):
        return f"none (n = {own.n})"
    low, high = (_number(value, own.unit) for value in (own.low, own.high))
    return f"{low.removesuffix(' %')} to {high}"


def _between(change: Difference) -> str:
    if isnan(change.low):
        return f"none (n = {change.n})"
    low, high = (_signed(value, change.unit) for value in (change.low, change.high))
    return f"{low.removesuffix(' points')} to {high}"
