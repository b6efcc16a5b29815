"""`hw.search`: settings are chosen on validation examples and judged once on test examples."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pandas as pd
import pytest

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.evaluation import find_task
from headwise.evaluation.comparison._search import search
from headwise.evaluation.comparison.space import space_of
from headwise.evaluation.task import Metric
from headwise.fixes import ScaleHeads, ZeroHeads
from tests.kit.comparisons import Learned, Next, recorded_questions, small_subject
from tests.tiny.snapshot import snapshot

EVERY = [(layer, head) for layer in range(4) for head in range(8)]


@pytest.fixture(scope="module")
def subject():
    return small_subject()


@pytest.fixture
def asked(monkeypatch):
    return recorded_questions(monkeypatch)


@pytest.fixture(scope="module")
def repaired():
    """The search for the repair of a model whose heads are muted to a twentieth."""
    vlm = hw.load("zoo:vlm")
    task = find_task("scene-existence", noise=0)
    with hw.patch(vlm, ScaleHeads(heads=EVERY, factor=0.05)):
        return search(
            vlm,
            task,
            ScaleHeads(heads=EVERY, factor=10.0),
            space={"factor": (0.5, 30)},
            trials=5,
            n=30,
            calibrate=24,
        )


@pytest.mark.slow
def test_the_best_setting_is_found_and_judged(repaired):
    assert repaired.best is not None
    assert repaired.best["factor"] > 5
    assert repaired.fix.factor == repaired.best["factor"]
    change = repaired.comparison.arms[1].main
    assert change.low > 0
    assert change.n == 30
    assert len(repaired.frame) == 5
    assert (
        repaired.frame["accuracy"].iloc[repaired.manifest["best_trial"]] == repaired.frame["accuracy"].max()
    )
    assert "on 24 validation examples is factor =" in repaired.summary
    assert "on 30 test examples" in repaired.summary


def test_no_change_and_the_given_setting_come_first(repaired):
    assert repaired.frame["factor"].head(2).to_list() == [1.0, 10.0]
    assert repaired.frame["trial"].to_list() == list(range(5))


def test_validation_and_test_are_kept_apart(repaired):
    assert set(repaired.manifest["validation_ids"]).isdisjoint(repaired.manifest["ids"])
    assert repaired.comparison.manifest["ids"] == repaired.manifest["ids"]


def test_the_search_never_sees_a_test_example_and_judges_once(subject, asked):
    found = search(subject, Next(), Learned(), trials=6, n=15, calibrate=6)
    test, validation = found.manifest["ids"], found.manifest["validation_ids"]
    texts = [
        {example.inputs["text"] for example in Next().examples() if example.id in ids}
        for ids in (test, validation)
    ]
    assert texts[0].isdisjoint(texts[1])
    tried = [ids for ids in asked if set(ids) & set(validation)]
    judged = [ids for ids in asked if set(ids) & set(test)]
    assert all(ids == validation for ids in tried)
    assert len(tried) == 6 + 1  # trials, and the fit
    assert len(judged) == (
        0 if found.comparison is None else 3
    )  # the first batch for the clock, and two arms
    assert found.manifest["fitted_on"] == "next, validation, n = 6, seed 0"


@pytest.mark.slow
def test_the_same_call_tries_the_same_settings(subject):
    one, two = (search(subject, Next(), Learned(), trials=14, n=10, calibrate=6, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one.frame, two.frame)
    assert one.summary == two.summary
    other = search(subject, Next(), Learned(), trials=14, n=10, calibrate=6, seed=4)
    assert other.frame["beta"].to_list() != one.frame["beta"].to_list()


@dataclass(frozen=True, kw_only=True)
class Worse:
    """Any strength but 1 spoils everything."""

    factor: float = 0.5
    depth: int = 2
    space: ClassVar[dict[str, tuple[float, float]]] = {"factor": (0.0, 1.0)}
    used: list[float] = field(default_factory=list, compare=False)

    @property
    def neutral(self) -> bool:
        return self.factor == 1

    def __post_init__(self) -> None:
        if not 0 <= self.factor <= 2:
            raise FixError("factor must lie between 0 and 2.", evidence=f"got {self.factor}")

    def edit_residual(self, residual: Any, site: Any, context: Any) -> Any:
        self.used.append(self.factor)
        return residual * 0


def test_no_change_can_win_and_then_nothing_is_judged(asked, tmp_path):
    lm = hw.load("zoo:lm")
    found = search(lm, "recall", Worse(), trials=4, n=10, calibrate=12)
    assert found.best is None
    assert found.fix is None
    assert found.comparison is None
    assert found.manifest["best_trial"] == 0
    assert repr(hw.load_search(found.save(tmp_path / "none.json"))) == repr(found)
    assert "none of 3 settings of Worse is better than no change on 12 validation examples" in found.summary
    assert not [ids for ids in asked if set(ids) & set(found.manifest["ids"])]
    assert "Search(recall: none" in repr(found)
    assert found.plot().data


@pytest.mark.parametrize("effect", [0, 0.3, 0.5])
@pytest.mark.parametrize(("metric", "first"), [("accuracy", [0.4, 0.8]), ("wrong_long/long", [0.9, 0.5])])
def test_a_gain_below_the_smallest_effect_is_not_judged(
    subject, metric, first, effect, tmp_path, monkeypatch
):
    """The first setting gains 0.4 in either direction on the validation examples."""
    values = iter(first)
    monkeypatch.setattr(Metric, "compute", lambda *_: next(values, 0.5))
    call = {"trials": 2, "n": 10, "calibrate": 6, "metric": metric, "guard": False}
    found = search(subject, Next(), Learned(), **call, smallest_effect=effect)
    assert (found.best is None) == ("no change by 0.5 on 6" in found.summary) == (effect > 0.4)
    assert found.manifest["smallest_effect"] == effect
    assert hw.load_search(found.save(tmp_path / "a.json")).summary == found.summary
    if found.comparison is not None:
        differences = found.comparison.arms[1].differences
        assert {name for name, item in differences.items() if item.smallest_effect} == (
            {metric} if effect else set()
        )
        small = replace(found, manifest={**found.manifest, "smallest_effect": 9.0})
        assert "less than 9, the smallest worth having)" in small.summary


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_a_smallest_effect_that_is_no_distance_is_refused(subject, wrong):
    with pytest.raises(InputError, match="worth having is a distance"):
        search(subject, Next(), Learned(), smallest_effect=wrong)


def test_a_metric_may_be_chosen_and_less_may_be_better(subject):
    found = search(subject, Next(), Learned(), trials=3, n=10, calibrate=6, metric="wrong_long/long")
    values = found.frame["wrong_long/long"]
    assert values.iloc[found.manifest["best_trial"]] == values.min()
    with pytest.raises(InputError, match=r"cannot be searched by 'tokens'.*accuracy"):
        search(subject, Next(), Learned(), metric="tokens")
    with pytest.raises(InputError, match="cannot be searched by 'heads'"):
        search(hw.load("zoo:lm"), "sinks", ScaleHeads(heads=((0, 0),), factor=1), metric="heads")
    with pytest.raises(InputError, match=r"'heads'.*choose among: none"):
        search(hw.load("zoo:lm"), "sinks", ScaleHeads(heads=((0, 0),), factor=1))
    with pytest.raises(InputError, match="cannot be searched by 'yes_ratio'"):
        search(hw.load("zoo:vlm"), "pope-random", ScaleHeads(heads=EVERY, factor=1), metric="yes_ratio")


def test_spaces_and_what_is_neutral_in_them():
    scale = ScaleHeads(heads=((0, 0),), factor=0.5)
    assert space_of(scale, {"factor": (0, 2)}).neutral == {"factor": 1.0}
    assert space_of(scale, {"factor": (0, 0.9)}).neutral is None
    assert space_of(scale, {"factor": (0.6, 2)}).given is None
    assert space_of(Worse()).bounds == {"factor": (0.0, 1.0)}
    both = space_of(Worse(), {"factor": (0, 1), "depth": (1, 4)})
    assert both.neutral == {"factor": 1.0, "depth": 2}
    assert type(both.distributions()["depth"]).__name__ == "IntDistribution"
    assert type(both.distributions()["factor"]).__name__ == "FloatDistribution"


@pytest.mark.parametrize(
    ("fix", "space", "error", "said"),
    [
        (ZeroHeads(heads=((0, 0),)), None, InputError, "ZeroHeads names no parameters to search"),
        (Worse(), {}, InputError, "Worse names no parameters"),
        (Worse(), {"p": (0, 1)}, InputError, "Worse has no 'p'"),
        (Worse(), {"factor": (1, 0)}, InputError, "range of 'factor' is none"),
        (Worse(), {"factor": (0, float("inf"))}, InputError, "range of 'factor' is none"),
        (Worse(), {"factor": 3}, InputError, "range of 'factor' is none"),
        (Worse(), {"factor": (0, 3)}, FixError, "between 0 and 2"),
        ([Worse(), Worse()], None, InputError, "One fix is searched at a time"),
        (ScaleHeads(heads=((9, 0),), factor=0.5), {"factor": (0, 1)}, FixError, "names layer 9"),
    ],
)
def test_bad_searches_are_refused_before_anything_is_asked(subject, asked, fix, space, error, said):
    before = snapshot(subject.model)
    with pytest.raises(error, match=said):
        search(subject, Next(), fix, space=space, n=10, calibrate=6)
    assert asked == []
    assert snapshot(subject.model) == before


def test_one_trial_is_no_search(subject):
    with pytest.raises(InputError, match="first trial is no change"):
        search(subject, Next(), Learned(), trials=1)


def test_without_optuna_it_says_how_to_get_it(subject, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"optuna, which is not installed.*headwise\[search\]"):
        search(subject, Next(), Learned())


def test_optunas_own_log_level_is_left_alone(subject):
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        search(subject, Next(), Learned(), trials=2, n=5, calibrate=5)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)


def test_progress_counts_settings(subject):
    told = []
    search(subject, Next(), Learned(), trials=3, n=5, calibrate=5, progress=lambda *pair: told.append(pair))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_saved(repaired, tmp_path):
    path = repaired.save(tmp_path / "search.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert len(content["trials"]) == 5
    assert content["best"] == repaired.best
    assert content["test"]["arms"][1]["label"] == repaired.comparison.arms[1].label
    repaired.save(tmp_path / "search.csv")
    repaired.save(tmp_path / "search.parquet")
    for name in ("search.json", "search.parquet"):
        back = hw.load_search(tmp_path / name)
        pd.testing.assert_frame_equal(back.frame, repaired.frame, check_exact=True)
        assert (back.summary, back.best, back.comparison.n) == (repaired.summary, repaired.best, 30)
    with pytest.raises(InputError, match=r"A search cannot be written as \.txt"):
        repaired.save(tmp_path / "search.txt")
    assert "factor" in repaired._repr_html_()
    assert len(repaired.plot().data) == 1
