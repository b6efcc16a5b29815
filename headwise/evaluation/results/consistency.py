"""Arms of a comparison that come out of a file: what each says goes with the others and with the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isclose, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.evaluation.results.arm import Arm, Cost
from headwise.evaluation.results.methods import NEAR
from headwise.evaluation.results.numbers import check_numbers
from headwise.evaluation.results.scores import SCORES, check_examples, check_scores, values_of
from headwise.evaluation.statistics.multiple import adjusted

if TYPE_CHECKING:
    import pandas as pd

_ROUNDED = 2e-3
"""Seconds of a manifest are rounded to a thousandth."""


def check_arms(arms: Sequence[Arm], manifest: Mapping[str, Any], *, examples: int) -> None:
    """Refuse arms that no comparison of so many examples could have given.

    Raises:
        ValueError: a metric is missing, a difference is not that of two arms, its
            p is adjusted for other tests, or more is changed, repaired and broken than there is.
    """
    first = arms[0]
    for arm in arms:
        check_numbers((*arm.estimates.values(), *arm.differences.values()), examples=examples)
        _check_metrics(arm, first)
        _check_counts(arm, examples)
        _check_cost(arm.cost, first.cost, examples)
        taken = manifest.get("seconds", {}).get(arm.label, arm.cost.seconds)
        if abs(taken - arm.cost.seconds) > _ROUNDED:
            raise ValueError(f"arm {arm.label!r} took {taken} and {arm.cost.seconds} s")
        for name in arm.differences:
            _check_difference(arm, first, name, examples)
    if any((first.changed, first.repaired, first.broken)):
        raise ValueError(f"arm {first.label!r} differs from itself")
    rows = [list(arm.differences.values()) for arm in arms[1:]]
    for row, expected in zip(rows, adjusted(rows), strict=True):
        for one, two in zip(row, expected, strict=True):
            if not np.isclose(one.p_holm, two.p_holm, rtol=0, atol=NEAR, equal_nan=True):
                raise ValueError(
                    f"{one.metric}: p is {one.p_holm} after adjusting, by Holm's rule {two.p_holm}"
                )


def check_rows(arms: Sequence[Arm], frame: pd.DataFrame, manifest: Mapping[str, Any]) -> None:
    """Refuse arms that their examples do not give.

    Raises:
        ValueError: the number, and what the examples give.
    """
    tables = [table.reset_index(drop=True) for _, table in frame.groupby("arm", sort=False)]
    scores, empty = manifest.get(SCORES, {}), manifest.get("empty", {})
    for arm, table in zip(arms, tables, strict=True):
        replies = empty.get("replies", {}).get(arm.label)
        own = {} if replies is None else {"replies": replies, "references": empty.get("references", 0)}
        if table["id"].to_list() != tables[0]["id"].to_list():
            raise ValueError(f"arm {arm.label!r} has other examples")
        check_examples(table, manifest, own)
        check_scores(table, list(arm.estimates.values()), scores)
        if arm.changed != (count := changed_rows(tables[0], table)):
            raise ValueError(f"changed is {arm.changed}, and {count} examples differ")
        _check_pairs(arm, tables[0], table, scores)


def changed_rows(before: pd.DataFrame, after: pd.DataFrame) -> int:
    """Rows that differ in anything but their arm; numbers by more than 1e-4.

    Example:
        >>> import pandas as pd
        >>> one, two = pd.DataFrame({"x": [0.5, 1.0]}), pd.DataFrame({"x": [0.5, 0.9]})
        >>> changed_rows(one, one), changed_rows(one, two)
        (0, 1)
    """
    differs = np.zeros(len(before), dtype=bool)
    for name in before.columns.drop("arm", errors="ignore"):
        one, two = before[name], after[name]
        if one.dtype.kind in "iuf" and two.dtype.kind in "iuf":
            differs |= ~np.isclose(one, two, rtol=0, atol=1e-4, equal_nan=True)
        else:
            missing = (one.isna() & two.isna()).to_numpy()
            differs |= (one != two).to_numpy(dtype=bool, na_value=True) & ~missing
    return int(differs.sum())


def _check_metrics(arm: Arm, first: Arm) -> None:
    metrics = list(first.estimates)
    if not metrics or list(arm.estimates) != metrics:
        raise ValueError(f"arm {arm.label!r} lacks metrics")
    if list(arm.differences) != ([] if arm is first else metrics):
        raise ValueError(f"arm {arm.label!r} lacks differences")
    for item in (*arm.estimates.values(), *arm.differences.values()):
        known = first.estimates[item.metric]
        if (item.unit, item.higher_is_better) != (known.unit, known.higher_is_better):
            raise ValueError(f"{item.metric} is of another unit or direction in arm {arm.label!r}")


def _check_counts(arm: Arm, examples: int) -> None:
    flips = (arm.repaired, arm.broken)
    for name, value in zip(("changed", "repaired", "broken"), (arm.changed, *flips), strict=True):
        if not 0 <= (value or 0) <= examples:
            raise ValueError(f"{name} is {value} of {examples} examples")
    if (flips[0] is None) != (flips[1] is None) or sum(count or 0 for count in flips) > arm.changed:
        raise ValueError(f"changed is {arm.changed}, repaired {arm.repaired}, broken {arm.broken}")


def _check_cost(cost: Cost, first: Cost, examples: int) -> None:
    for name, value in asdict(cost).items():
        if value < 0:
            raise ValueError(f"{name} is {value}")
    units = [one.tokens or examples for one in (cost, first)]
    for name, taken, usual in (
        ("wall", cost.seconds, first.seconds),
        ("cpu", cost.cpu_seconds, first.cpu_seconds),
    ):
        ratio = getattr(cost, name)
        if usual > 0 and not isclose(ratio, (taken / units[0]) / (usual / units[1]), rel_tol=1e-6):
            raise ValueError(f"{name} is {ratio}, of {taken} and {usual} s")


def _check_difference(arm: Arm, first: Arm, name: str, examples: int) -> None:
    """A difference over all examples that both arms have a value for is that of their numbers."""
    one, two, change = first.estimates[name], arm.estimates[name], arm.differences[name]
    if not max(0, one.n + two.n - examples) <= change.n <= min(one.n, two.n):
        raise ValueError(f"{name}: n is {change.n} of {one.n} and {two.n} examples")
    if change.n == one.n == two.n and isfinite(one.value) and isfinite(two.value):
        expected = two.value - one.value
        if not isclose(change.value, expected, rel_tol=NEAR, abs_tol=NEAR * (1 + abs(one.value))):
            raise ValueError(f"{name}: the difference of {two.value} and {one.value} is {change.value}")


def _check_pairs(
    arm: Arm, before: pd.DataFrame, after: pd.DataFrame, scores: Mapping[str, Mapping[str, Any]]
) -> None:
    """Counts of pairs, and of answers that became right or wrong, are those of the two tables."""
    for place, (name, change) in enumerate(arm.differences.items()):
        if name not in scores:
            continue
        one, two = (values_of(table, scores[name]) for table in (before, after))
        known = ~(np.isnan(one) | np.isnan(two)).any(axis=0)
        if change.n != known.sum():
            raise ValueError(f"{name}: n is {change.n}, and {known.sum()} examples have a score in both arms")
        if place == 0 and arm.repaired is not None and len(one) == 1 and "where" not in scores[name]:
            moved = [int((one < two).sum()), int((one > two).sum())]
            if moved != (
                [arm.repaired, arm.broken] if change.higher_is_better else [arm.broken, arm.repaired]
            ):
                raise ValueError(
                    f"{arm.repaired} repaired and {arm.broken} broken are not those of the scores"
                )
