"""`hw.evaluate`: the same numbers again, intervals, tables, files, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation import (
    Example,
    Generate,
    Metric,
    MultipleChoice,
    Response,
    Task,
    find_task,
    mean,
    ratio,
    task_names,
)
from headwise.evaluation.statistics.estimate import estimate
from headwise.plugins import Plugins
from tests.kit import comparisons
from tests.kit.comparisons import small_subject
from tests.kit.subjects import WORDS, llava_processor


@dataclass(frozen=True, kw_only=True)
class Next(Task):
    """The model writes a few words after others; a task as a user would write it."""

    name: ClassVar[str] = "next"

    count: int = 9
    twice: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            mean("hit"),
            ratio("length", "words"),
            Metric("odd", ("length",), np.mean, where=("odd", True)),
        )

    @property
    def solver(self) -> Generate:
        return Generate(3)

    def examples(self) -> Sequence[Example]:
        return [
            Example(
                "same" if self.twice else f"e{number}",
                {"text": " ".join(WORDS[: number % 7 + 1])},
                WORDS[number % len(WORDS)],
                {"number": number},
            )
            for number in range(self.count)
        ]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        words = response.text.split()
        odd = example.metadata["number"] % 2 == 1
        return {"hit": example.answer in words, "length": len(words), "words": 3, "odd": odd}


@pytest.fixture(scope="module")
def subject() -> hw.Subject:
    """A model with absolute positions; its tokenizer has no padding token and pads on the right."""
    return small_subject()


def test_a_second_run_gives_the_same_numbers(subject):
    one, two = (hw.evaluate(subject, Next(), n=4, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(one.frame, two.frame)
    assert one.estimates == two.estimates
    timeless = [{key: value for key, value in run.manifest.items() if key != "seconds"} for run in (one, two)]
    assert timeless[0] == timeless[1]
    assert one.manifest["ids"] == one.frame["id"].to_list()
    other = hw.evaluate(subject, Next(), n=4, seed=5)
    assert other.manifest["ids"] != one.manifest["ids"]


def test_a_model_in_training_mode_is_asked_without_dropout_and_left_as_it_was(subject):
    own = hw.wrap(copy.deepcopy(subject.model).train(), subject.processor)
    own.model.transformer.h[0].eval()
    modes = [module.training for module in own.model.modules()]
    pd.testing.assert_frame_equal(hw.evaluate(own, Next()).frame, hw.evaluate(subject, Next()).frame)
    assert [module.training for module in own.model.modules()] == modes


def test_the_models_own_decoding_is_in_the_manifest(subject):
    own = hw.wrap(copy.deepcopy(subject.model), subject.processor)
    own.model.generation_config.repetition_penalty = 1.5
    assert hw.evaluate(own, Next(), n=1).manifest["model"]["generation_config"]["repetition_penalty"] == 1.5


def test_the_batch_size_changes_no_reply(subject):
    frames = [hw.evaluate(subject, Next(), batch_size=size).frame for size in (1, 2, 100)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_the_table_has_a_row_per_example_in_the_order_of_the_data(subject):
    found = hw.evaluate(subject, Next())
    assert found.frame["id"].to_list() == [f"e{number}" for number in range(9)]
    assert list(found.frame.columns[:5]) == ["id", "prompt", "answer", "response", "tokens"]
    assert found.frame["prompt"][1] == "a cat"
    assert found.value == found.frame["hit"].mean()
    assert found.estimates["length/words"].value == found.frame["length"].sum() / 27
    assert found.manifest["tokens"] == found.frame["tokens"].sum()
    assert found.manifest["decoding"] == {
        "asked": "generate",
        "do_sample": False,
        "max_new_tokens": 3,
        "beams": 1,
    }
    assert found.manifest["task"] == {"name": "next", "version": 1, "options": {"count": 9, "twice": False}}


def test_a_metric_of_some_examples(subject):
    found = hw.evaluate(subject, Next())
    odd = found.frame[found.frame["odd"]]
    assert found.estimates["odd"].n == len(odd) == 4
    assert found.estimates["odd"].value == odd["length"].mean()
    none = hw.evaluate(subject, Next(count=1))
    assert none.estimates["odd"].n == 0
    assert math.isnan(none.estimates["odd"].value)


def test_the_users_processor_stays_as_it_was(subject):
    before = subject.tokenizer.padding_side, subject.tokenizer.pad_token
    hw.evaluate(subject, Next(), n=3)
    assert (subject.tokenizer.padding_side, subject.tokenizer.pad_token) == before == ("right", None)


def test_progress_is_told_and_ends_at_the_end(subject):
    told: list[tuple[int, int]] = []
    hw.evaluate(subject, Next(), batch_size=4, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (9, 9)
    assert {total for _, total in told} == {9}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_saved_and_read_again(subject, tmp_path, suffix):
    found = hw.evaluate(subject, Next(count=1))  # too few for an interval: NaN has to survive
    path = found.save(tmp_path / f"run{suffix}")
    again = hw.load_evaluation(path)
    pd.testing.assert_frame_equal(again.frame, found.frame, check_dtype=False)
    assert again.task == found.task
    assert again.manifest == json.loads(json.dumps(found.manifest))
    assert repr(again.estimates) == repr(found.estimates)
    assert again.summary == found.summary
    assert "(no interval, n = 1)" in found.summary
    assert all(" no interval (n = " in str(item) for item in found.estimates.values())
    assert "NaN" not in found.plot().to_json()


def test_a_table_of_examples_as_text(subject, tmp_path):
    found = hw.evaluate(subject, Next(), n=3)
    path = found.save(tmp_path / "run.csv")
    assert pd.read_csv(path)["id"].to_list() == found.frame["id"].to_list()
    with pytest.raises(InputError, match="cannot be written"):
        found.save(tmp_path / "run.txt")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run.csv"]


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"task": "a", "examples": [], "estimates": [{}], "manifest": {}}']
)
def test_a_file_that_is_no_evaluation(tmp_path, text):
    for name in ("a.json", "a.parquet"):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match="no evaluation"):
            hw.load_evaluation(path)
    with pytest.raises(InputError, match="There is no file"):
        hw.load_evaluation(tmp_path / "none.json")


def test_figure_and_page_show_what_was_found(subject):
    found = hw.evaluate(subject, Next())
    assert len(found.plot().data) >= 1
    assert "hit" in found._repr_html_()
    assert found.task in repr(found)


def test_what_cannot_be_asked_is_refused(subject):
    with pytest.raises(InputError, match="has 9 examples, fewer than 10"):
        hw.evaluate(subject, Next(), n=10)
    with pytest.raises(InputError, match=r"occur more than once.*same"):
        hw.evaluate(subject, Next(twice=True))
    with pytest.raises(InputError, match="no examples"):
        hw.evaluate(subject, Next(count=0))
    with pytest.raises(InputError, match="count examples"):
        hw.evaluate(subject, Next(), n=0)
    with pytest.raises(InputError, match="count examples"):
        hw.evaluate(subject, Next(), batch_size=0)
    with pytest.raises(InputError, match="no tokenizer"):
        hw.evaluate(subject.model, Next())


def test_an_image_processor_alone_is_no_tokenizer(subject):
    with pytest.raises(InputError, match="needs a decoder with a tokenizer"):
        hw.evaluate(hw.wrap(subject.model, llava_processor().image_processor), "ioi", n=2)


def test_unknown_tasks_and_options():
    with pytest.raises(InputError, match=r"no task 'perplexty'.*perplexity"):
        find_task("perplexty")
    with pytest.raises(InputError, match=r"no option 'shot'.*shots"):
        find_task("colored-objects", shot=1)
    with pytest.raises(InputError, match="cannot be 'many'"):
        find_task("colored-objects", shots="many")
    assert find_task("colored-objects", shots="0").options()["shots"] == 0
    assert find_task("alignment", heads="[[1, 0], [2, 3]]").options()["heads"] == [[1, 0], [2, 3]]
    with pytest.raises(InputError, match="'heads' of 'alignment' cannot be"):
        find_task("alignment", heads="[[1, 0")


@dataclass(frozen=True, kw_only=True)
class Needy(Next):
    """A task that cannot be had without saying which of its variants is wanted."""

    name: ClassVar[str] = "needy"

    which: str


def test_a_task_of_another_package_that_needs_an_option(monkeypatch):
    tasks = Plugins("task", "headwise.tasks", {"needy": f"{__name__}:Needy"})
    monkeypatch.setattr("headwise.evaluation.registry.TASKS", tasks)
    with pytest.raises(InputError, match=r"'needy' needs an option. \(which\)"):
        find_task("needy")
    assert find_task("needy", which="left").which == "left"


@pytest.mark.parametrize("name", task_names())
def test_every_registered_task_exists_and_says_what_it_is(name):
    task = find_task(name)
    assert task.title.startswith(name)
    assert task.metrics
    assert json.dumps(task.options())
    assert task.solver.manifest()["asked"]


def test_intervals_of_a_share():
    rng = np.random.default_rng(0)
    hits = rng.random(400) < 0.3
    found = estimate(mean("hit"), {"hit": hits.tolist()}, seed=0)
    spread = 1.96 * math.sqrt(found.value * (1 - found.value) / 400)
    assert found.low == pytest.approx(found.value - spread, abs=0.01)
    assert found.high == pytest.approx(found.value + spread, abs=0.01)
    assert found.method == "Wilson"
    perfect = estimate(mean("hit"), {"hit": [True] * 50}, seed=0)
    assert (perfect.value, perfect.high, perfect.method) == (1.0, 1.0, "Wilson")
    assert perfect.low == pytest.approx(50 / (50 + 1.96**2), abs=1e-3)


@given(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=8))
def test_an_interval_holds_its_value(values):
    found = estimate(mean("x", unit="points"), {"x": values}, seed=0)
    known = [value for value in values if not math.isnan(value)]
    if not known:
        assert math.isnan(found.value)
        return
    assert found.value == pytest.approx(float(np.mean(known)))
    if not math.isnan(found.low):
        assert min(known) - 1e-9 <= found.low <= found.high <= max(known) + 1e-9


def test_an_asker_may_be_used_alone(subject):
    example = Example("0", {"text": "a cat"}, "", {"candidates": (" sat",)})
    (response,) = MultipleChoice()(subject, [example], batch_size=1, advance=lambda more: None)
    assert response.scores[" sat"] < 0


@pytest.mark.parametrize("where", [None, ("nothing", 1)])
@pytest.mark.parametrize("metric", [mean("nothing"), ratio("right", "nothing")])
def test_a_metric_of_a_column_that_no_score_gives_is_one_error(metric, where):
    class Lacks(comparisons.Next):
        @property
        def metrics(self) -> tuple[Metric, ...]:
            return (mean("right", name="accuracy"), replace(metric, name="odd", where=where))

    said = r"metric 'odd' is made of 'nothing', which the task never gives.*right"
    with pytest.raises(InputError, match=said):
        hw.evaluate(small_subject(), Lacks(), n=2)
    with pytest.raises(InputError, match=said):
        hw.compare(small_subject(), Lacks(), comparisons.SILENT, n=9)
