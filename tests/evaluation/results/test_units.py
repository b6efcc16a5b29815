"""Numbers that their unit, method or count cannot give are in no file, whatever the kind of file."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.analyses import registry
from headwise.errors import InputError
from headwise.evaluation import find_task, mean, ratio
from headwise.evaluation.registry import task_names
from headwise.evaluation.results.numbers import check_number
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.paired import difference
from headwise.results.result import Result
from headwise.units import RANGES, range_of
from tests.kit.result_files import rewritten
from tests.kit.results import every_kind
from tests.kit.stored import STORED, evaluation

BOUNDED = [(unit, low, high) for unit, (low, high) in RANGES.items() if (low, high) != (-inf, inf)]
Content = dict[str, Any]


def used() -> set[str]:
    """The unit of every analysis and of every metric of every task."""
    metrics = {metric.unit for name in task_names() for metric in find_task(name).metrics}
    return metrics | {registry.get(name).unit for name in registry.names()}


def test_every_unit_of_the_package_has_a_range() -> None:
    missing = {unit for unit in used() if unit.partition(",")[0] not in RANGES}
    assert missing == set()
    assert range_of("furlongs") == (-inf, inf)  # a plug-in may have units of its own


def _estimate(found: Content, unit: str, value: float) -> None:
    found.update(unit=unit, value=value, low=None, high=None, method="none")


def _search(content: Content, unit: str, value: float) -> None:
    content["manifest"]["unit"] = unit
    for row in content["trials"]:
        row[-1] = value


def _harness(content: Content, unit: str, value: float) -> None:
    content["differences"][0].update(
        unit=unit, value=0.0, low=None, high=None, p=None, p_holm=None, method="none"
    )
    for row in content["metrics"]:
        row["value"] = value


def _result(content: Content, unit: str, value: float) -> None:
    content["unit"] = unit
    content["rows"][0][list(content["columns"]).index(content["value"])] = value


WRITTEN: dict[str, Callable[[Content, str, float], None]] = {
    "evaluation": lambda content, *given: _estimate(content["estimates"][0], *given),
    "comparison": lambda content, *given: _estimate(content["arms"][1]["estimates"][0], *given),
    "search": _search,
    "harness result": _harness,
    "result of heads": _result,
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_numbers_beyond_their_unit_are_in_no_file(tmp_path: Path, kind: str) -> None:
    stored = STORED[f"{kind} .json"]
    stored.write(tmp_path / "a.json")
    for unit, low, high in BOUNDED:
        for value in [low - 3.0, *([high + 3.0] if high < inf else [])]:
            change = lambda content, given=(unit, value): WRITTEN[kind](content, *given)  # noqa: E731
            path = rewritten(tmp_path / "a.json", tmp_path / "b.json", change)
            with pytest.raises(InputError, match=f"{value:g}"):
                stored.read(path)


def _with(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["estimates"][0].update(values)


def _of(number: int, **values: Any) -> Callable[[Content], None]:
    return lambda content: content["arms"][1]["differences"][number].update(values)


def _tokens(content: Content) -> None:
    content["examples"][-1][list(content["columns"]).index("tokens")] = -3


DAMAGES: dict[str, tuple[str, Callable[[Content], Any], str]] = {
    "a share that is NaN": ("evaluation", _with(value=None, low=None, high=None), "value is nan share"),
    "infinitely many words": (
        "evaluation",
        _with(unit="words", value={"$float": "inf"}),
        "value is inf words",
    ),
    "an interval the wrong way": ("evaluation", _with(low=1.0, high=0.25), "interval runs from"),
    "half an interval": ("evaluation", _with(low=None), "interval runs from"),
    "an interval of one example": ("evaluation", _with(n=1), "an interval, of 1 examples"),
    "an interval by no method": ("evaluation", _with(method="none: too few examples"), "it has an interval"),
    "outside of Wilson's interval": (
        "evaluation",
        _with(value=0.1, method="Wilson, groups"),
        "value is 0.1 of 4 examples, from 0.25",
    ),
    "half an example": ("evaluation", _with(n=3.5), "n is 3.5"),
    "fewer than no examples": ("evaluation", _with(n=-3), "n is -3"),
    "more examples than there are": ("evaluation", _with(n=5), "n is 5 of 4"),
    "negative seconds": ("evaluation", lambda content: content["manifest"].update(seconds=-1.0), "seconds"),
    "fewer than no tokens in all": (
        "evaluation",
        lambda content: content["manifest"].update(tokens=-3),
        "greater than or equal to 0",
    ),
    "fewer than no empty replies": (
        "evaluation",
        lambda content: content["manifest"]["empty"].update(replies=-3),
        "greater than or equal to 0",
    ),
    "fewer than no tokens": ("comparison", _tokens, "-3 tokens"),
    "p above 1": ("comparison", _of(0, p=1.5, p_holm=1.5), "p is 1.5"),
    "p below 0": ("comparison", _of(0, p=-0.5), "p is -0.5"),
    "p that adjusting made smaller": ("comparison", _of(0, p=0.5, p_holm=0.25), "0.25 after adjusting"),
    "p that is there before adjusting alone": ("comparison", _of(0, p_holm=None), "nan after adjusting"),
    "a difference beyond both numbers": ("comparison", _of(0, value=1.5, high=1.5), "value is 1.5 share"),
    "a difference outside of Wilson's interval": (
        "comparison",
        _of(0, value=0.75, method="Wilson; exact permutation test"),
        "value is 0.75 of 4 examples, from -0.25",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_numbers_that_do_not_go_together_are_in_no_file(tmp_path: Path, name: str) -> None:
    kind, change, said = DAMAGES[name]
    stored = STORED[f"{kind} .json"]
    stored.write(tmp_path / "a.json")
    with pytest.raises(InputError, match=said):
        stored.read(rewritten(tmp_path / "a.json", tmp_path / "b.json", change))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(
            ("value", 1.5),
            ("low", -0.5),
            ("difference", -1.5),
            ("difference_high", 1.5),
            ("n", -1),
            ("n", 2.5),
        ),
        *(("p", 1.5), ("p_holm", -0.5), ("high", 0.0), ("difference_low", 1.0)),
    ],
)
def test_tables_of_differences(column: str, value: float) -> None:
    about = {
        "value": 0.5,
        "low": 0.25,
        "high": 0.75,
        "difference_low": -0.25,
        "difference_high": 0.5,
        "p": 0.5,
    }
    frame = pd.DataFrame(
        {"arm": ["a"], "metric": ["m"], "unit": ["share"], "difference": [0.25], "n": [4], **about}
    )
    facts = {**vars(every_kind()["difference"]), "frame": frame.assign(**{column: [value]})}
    with pytest.raises(InputError, match=f"{column!r}"):
        Result(**facts)


def test_what_no_file_may_hold_is_not_saved(tmp_path: Path) -> None:
    from dataclasses import replace

    found = evaluation()
    broken = replace(found.estimates["accuracy"], value=float("nan"))
    with pytest.raises(InputError, match="impossible in its unit"):
        replace(found, estimates={"accuracy": broken}).save(tmp_path / "a.json")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_found_is_never_refused(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 6))
    cell = data.draw(st.sampled_from([st.sampled_from([0.0, 1.0]), st.integers(0, 3).map(float)]))
    cells = st.lists(cell | st.just(np.nan), min_size=n, max_size=n)
    one, two = ({"above": data.draw(cells), "below": data.draw(cells)} for _ in range(2))
    groups = data.draw(st.none() | st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    for metric in (mean("above", unit="words"), ratio("above", "below", unit="errors per word")):
        check_number(estimate(metric, one, seed=0, groups=groups), examples=n)
        check_number(difference(metric, one, two, seed=0, groups=groups), examples=n)
