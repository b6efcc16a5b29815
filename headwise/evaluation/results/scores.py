"""How the numbers of an evaluation follow from its examples: said in its manifest, and asked of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose, isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.evaluation.replies import empty_counts
from headwise.evaluation.results.methods import NEAR
from headwise.evaluation.statistics.estimate import Estimate
from headwise.readers.limits import current_limits, require_within

if TYPE_CHECKING:
    import pandas as pd

    from headwise.evaluation.task import Metric

SCORES = "scores"
"""In a manifest: metric -> its columns; of one it is the mean, of two the sum of the first over that of the second."""


def score_columns(metrics: Sequence[Metric]) -> dict[str, dict[str, Any]]:
    """For a manifest: the columns of metrics that are a mean or a ratio of sums, and on which rows.

    Example:
        >>> from headwise.evaluation.task import mean
        >>> score_columns([mean("right", name="accuracy")])
        {'accuracy': {'columns': ['right']}}
    """
    return {
        metric.name: {"columns": [*metric.columns]} | ({"where": [*metric.where]} if metric.where else {})
        for metric in metrics
        if metric.is_mean or metric.pooled
    }


def check_scores(
    frame: pd.DataFrame, items: Sequence[Estimate], scores: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse numbers that the scores of the examples do not give.

    Args:
        frame: the per-example table of one arm.
        items: its numbers.
        scores: what `score_columns` gave.

    Raises:
        ValueError: the metric, with its value and that of the scores.
        InputError: there are more numbers and examples than the limit.
    """
    require_within(
        len(frame) * len(items), current_limits().parquet_cells, "examples times metrics", where="the file"
    )
    for item in items:
        if item.metric not in scores:
            continue
        columns = values_of(frame, scores[item.metric])
        known = columns[:, ~np.isnan(columns).any(axis=0)]
        above, below = known[0].sum(), known[1].sum() if len(known) == 2 else known.shape[1]
        if known.shape[1] != item.n:
            raise ValueError(f"{item.metric}: n is {item.n}, and {known.shape[1]} examples have a score")
        if below > 0 and not isclose(above / below, item.value, rel_tol=NEAR, abs_tol=NEAR):
            raise ValueError(f"{item.metric}: value is {item.value}, and its scores give {above / below}")
        if not item.n and not isnan(item.value):
            raise ValueError(f"{item.metric}: value is {item.value}, and no example has a score")


def values_of(frame: pd.DataFrame, rule: Mapping[str, Any]) -> np.ndarray:
    """(column, row): what a metric is computed from, NaN on rows that it is not about.

    Raises:
        ValueError: the table lacks a column, or holds no numbers there.
    """
    for name in (*rule["columns"], *(rule.get("where") or ())[:1]):
        if name not in list(frame):
            raise ValueError(f"the examples have no column {name!r}")
    found = np.stack([frame[name].to_numpy(dtype=float, na_value=np.nan) for name in rule["columns"]])
    if rule.get("where"):
        name, value = rule["where"]
        found = np.where((frame[name] == value).to_numpy(dtype=bool, na_value=False), found, np.nan)
    return found


def check_examples(frame: pd.DataFrame, manifest: Mapping[str, Any], empty: Mapping[str, Any]) -> None:
    """Refuse examples that a manifest counts, names or groups otherwise.

    Args:
        frame: the per-example table of one arm.
        manifest: of the evaluation or comparison.
        empty: how many replies and references it calls empty; empty where it does not say.

    Raises:
        ValueError: what the manifest says, and what the table has.
    """
    ids = manifest.get("ids")
    if ids and ids != frame["id"].to_list():
        raise ValueError("manifest: ids are not those of the examples")
    if empty and dict(empty) != (counted := empty_counts(frame)):
        raise ValueError(f"manifest: empty is {dict(empty)}, and the examples have {counted}")
    if said := manifest.get("groups", ""):
        groups = frame["group"].nunique() if "group" in frame else len(frame)
        if not said.startswith(f"{len(frame)} examples about {groups} "):
            raise ValueError(f"manifest: groups is {said!r}, and there are {len(frame)} examples in {groups}")
    if not 0 <= manifest.get("repeated", 0) < len(frame):
        raise ValueError(f"manifest: repeated is {manifest['repeated']} of {len(frame)} examples")
