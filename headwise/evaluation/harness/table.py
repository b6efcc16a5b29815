"""From what lm-evaluation-harness gives back: tables of metrics, of examples, and of what a fix changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.results.arm import NONE
from headwise.evaluation.statistics.multiple import holm
from headwise.evaluation.statistics.paired import difference
from headwise.evaluation.task import Metric

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("_sum", "_weight")
"""Behind the name of a metric that the harness computes from two numbers of every example."""


@dataclass(frozen=True)
class MetricRow:
    """One number of the harness."""

    arm: str
    task: str
    """Or a group."""
    metric: str
    filter: str
    value: float
    stderr: float
    """NaN where the harness gives none."""
    n: int
    higher_is_better: bool | None
    version: str


def metric_rows(arm: str, results: Mapping[str, Any]) -> list[MetricRow]:
    """One row per task or group and metric."""
    rows = []
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, comma, of = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            rows.append(
                MetricRow(
                    arm=arm,
                    task=task,
                    metric=metric,
                    filter=of,
                    value=_number(value),
                    stderr=_number(values.get(f"{metric}_stderr,{of}")),
                    n=values["sample_len"],
                    higher_is_better=results["higher_is_better"].get(task, {}).get(metric),
                    version=str(results["versions"].get(task, "")),
                )
            )
    return rows


def missing_metrics(asked: Mapping[str, Sequence[str]], results: Mapping[str, Any]) -> list[str]:
    """Sentences about metrics that were asked for and never came, which the harness passes over.

    Args:
        asked: task or group -> its metrics.
        results: what the harness gave back.

    Raises:
        InputError: of a task or group none came.
    """
    notes = []
    for task, names in asked.items():
        given = {key.partition(",")[0] for key in results["results"].get(task, {}) if "," in key}
        missing = ", ".join(name for name in names if name not in given)
        if missing and not given:
            raise InputError(
                f"The harness gives no metric that {task!r} asks for.",
                evidence=f"it asks for: {missing}",
                remedy="Name one in its metric_list that goes with its output_type.",
            )
        if missing:
            notes.append(
                f"{task!r} asks for {missing}, which the harness does not give: it is not among the numbers."
            )
    return notes


def example_rows(arm: str, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per example and filter: what was asked, what came back, and what it scored."""
    return [
        {"arm": arm, "task": task, "filter": sample["filter"], "id": str(sample["doc_id"]), **_asked(sample)}
        | _scores(sample)
        for task, samples in results["samples"].items()
        for sample in samples
    ]


def difference_rows(
    metrics: pd.DataFrame, examples: pd.DataFrame, aggregations: Mapping[str, Mapping[str, str]], *, seed: int
) -> list[dict[str, Any]]:
    """Every metric of every arm less that of the arm without a fix, over the same examples.

    Only metrics whose aggregation is known are there: means, perplexities and bits per byte. `p_holm` adjusts for all
    tests of the call: fixes, tasks, metrics and filters together.

    Args:
        metrics: what `metric_rows` gave.
        examples: what `example_rows` gave.
        aggregations: task -> metric -> how the harness sums up examples, by its name for that.
        seed: of the intervals.
    """
    found = []
    for (task, name, of), rows in metrics.groupby(["task", "metric", "filter"], sort=False):
        chosen = examples[(examples["task"] == task) & (examples["filter"] == of)]
        tables = dict(list(chosen.groupby("arm", sort=False)))
        values = dict(zip(rows["arm"], rows["value"], strict=True))
        before = tables.get(NONE)
        if before is None:
            continue  # a group
        rule = aggregations.get(str(task), {}).get(str(name), "")
        metric = _metric(str(name), rule, rows["higher_is_better"].iloc[0], before, values[NONE])
        arms = [arm for arm in tables if arm != NONE]
        if metric is None or any(tables[arm]["id"].to_list() != before["id"].to_list() for arm in arms):
            continue
        first = metric.select(before)
        changes = [difference(metric, first, metric.select(tables[arm]), seed=seed) for arm in arms]
        found += [
            {"arm": arm, "task": task, "filter": of, **asdict(item)}
            for arm, item in zip(arms, changes, strict=True)
        ]
    adjusted = holm([row["p"] for row in found])
    return [{**row, "p_holm": p} for row, p in zip(found, adjusted, strict=True)]


def _asked(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Prompt, answer and response; of a choice the candidates and their log-probabilities."""
    arguments, responses = sample["arguments"], sample["filtered_resps"]
    prompt = arguments[0][0]
    row: dict[str, Any] = {"prompt": str(prompt), "answer": _text(sample["target"]), "response": ""}
    row |= {"candidates": None, "log_probabilities": None}
    first = responses[0]
    if isinstance(first, tuple):  # the harness asked for the log-probability of continuations
        pairs = [
            (text, response[0])
            for (before, text), response in zip(arguments, responses, strict=True)
            if before == prompt  # others measure the continuation alone
        ]
        candidates, scores = [text for text, _ in pairs], [float(score) for _, score in pairs]
        target = sample["target"]
        if len(candidates) > 1 and isinstance(target, int) and 0 <= target < len(candidates):
            row["answer"] = candidates[target]
        best = candidates[int(np.argmax(scores))] if len(candidates) > 1 else ""
        row |= {"response": best, "candidates": candidates, "log_probabilities": scores}
    elif isinstance(first, float):
        row |= {"log_probabilities": [first]}
    else:
        row["response"] = _text(first)
    return row


def _scores(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A column per metric; two where it is a sum with its weight; JSON where it is anything else."""
    columns: dict[str, Any] = {}
    for name in sample["metrics"]:
        value = sample[name]
        parts = value if isinstance(value, tuple | list) and len(value) == 2 else ()
        if np.isscalar(value) and not isinstance(value, str):
            columns[name] = _number(value)
        elif parts and isinstance(parts[0], float) and isinstance(parts[1], int | float):
            columns |= {name + part: float(number) for part, number in zip(PARTS, parts, strict=True)}
        else:
            columns[f"{name}_json"] = _text(value, quoted=True)
    return columns


def _metric(name: str, rule: str, higher: bool | None, table: pd.DataFrame, value: float) -> Metric | None:
    """The metric as the harness sums it up; None where that is not known, or gives another number than its own."""
    statistic, parts = _RULES.get(rule, (_mean, ()))
    columns = tuple(name + part for part in parts)
    if not columns or not set(columns) <= set(table) or table[list(columns)].isna().any(axis=None):
        return None
    unit = "share" if rule == "mean" and table[name].isin([0, 1]).all() else ""
    metric = Metric(name, columns, statistic, unit, higher)
    if not np.isclose(metric.compute(metric.select(table)), value):
        return None  # a function of the task's own, of the same name
    return metric


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis)


def _perplexity(values: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(-values.mean(axis=axis))


def _bits_per_weight(sums: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    return -sums.sum(axis=axis) / weights.sum(axis=axis) / np.log(2)


def _perplexity_per_weight(sums: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(-sums.sum(axis=axis) / weights.sum(axis=axis))


_RULES: dict[str, tuple[Callable[..., np.ndarray], tuple[str, ...]]] = {
    "mean": (_mean, ("",)),
    "perplexity": (_perplexity, ("",)),
    "weighted_perplexity": (_perplexity_per_weight, PARTS),
    "bits_per_byte": (_bits_per_weight, PARTS),
}
"""Aggregation of the harness -> its formula on many sets of examples at once, and what columns of a metric it takes."""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | np.number | np.bool_) else float("nan")


def _text(value: Any, *, quoted: bool = False) -> str:
    """JSON, but for a text that need not be told from other things."""
    if isinstance(value, str) and not quoted:
        return value
    return json.dumps(
        value,
        default=lambda item: item.tolist() if hasattr(item, "tolist") else str(item),
        ensure_ascii=False,
    )
