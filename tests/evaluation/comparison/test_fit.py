"""`hw.fit`, what a fix is given to learn from, and what is kept from it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.evaluation import find_task
from headwise.evaluation.comparison._fit import fit
from headwise.evaluation.comparison.calibration import calibration
from headwise.evaluation.data.splits import in_validation
from headwise.evaluation.task_run import TaskRun
from headwise.subject.calibration import Calibration
from tests.kit.comparisons import Learned, Next, small_subject
from tests.tiny.snapshot import snapshot


@pytest.fixture(scope="module")
def subject():
    return small_subject()


def test_a_fix_is_fitted_on_the_validation_split(subject):
    fix = Learned()
    found = fit(subject, fix, Next(), n=6, seed=3)
    assert found.heads == ((0, 0),)
    (seen,) = fix.seen
    assert seen["name"] == "next, validation, n = 6, seed 3"
    assert len(seen["prompts"]) == len(seen["scores"]) == 6
    assert set(seen["scores"]) <= {0.0, 1.0}
    hw.patch(subject, found).remove()


@pytest.fixture
def fitted_ids(monkeypatch):
    """The ids of the examples that were handed to every fit, which then finds the first head."""
    seen = []

    def found(self, subject, data):
        seen.append(set(data.ids))
        return replace(self, heads=((0, 0),))

    monkeypatch.setattr(Learned, "fit", found)
    return seen


@pytest.mark.parametrize(("n", "seed"), [(30, 0), (17, 5), (9, 2)])
def test_what_a_fit_sees_of_a_file_is_nothing_that_a_comparison_asks(subject, fitted_ids, n, seed):
    found = fit(subject, Learned(), Next(), n=5, seed=seed + 1)
    compared = hw.compare(subject, Next(), found, n=n, seed=seed).manifest["ids"]
    assert len(compared) == n
    assert len(fitted_ids[0]) == 5
    assert fitted_ids[0].isdisjoint(compared)
    texts = {example.id: example.inputs["text"] for example in Next().examples()}
    assert {texts[id] for id in fitted_ids[0]}.isdisjoint(texts[id] for id in compared)
    fit(
        subject,
        Learned(),
        Next(),
        n=4,
        exclude=[example for example in Next().examples() if example.id == "e9"],
    )
    assert "e9" not in fitted_ids[1]


def _no_split(tmp_path):
    """Tasks without a split of their own: shipped texts, whatever is over those, a validation split; and over files."""
    lines = "".join(f"Line number {count} of many.\n\n" for count in range(9))
    (tmp_path / "texts.txt").write_text(lines, encoding="utf-8")
    phrases = [f"{name}{count}" for name in ("dog", "chien") for count in range(9)]
    for name, part in (("en", phrases[:9]), ("fr", phrases[9:])):
        (tmp_path / name).write_text("\n".join(part), encoding="utf-8")
    files = {"data": tmp_path / "en", "reference": tmp_path / "fr", "source": "en", "target": "fr"}
    return [
        Next(),
        find_task("perplexity"),
        find_task("perplexity", data=tmp_path / "texts.txt"),
        find_task("sinks"),
        find_task("transcription"),
        find_task("word-times"),
        find_task("translation", **files),
        find_task("ioi", split="validation"),
        find_task("translation", split="validation"),
    ]


@pytest.mark.slow
def test_a_task_without_a_split_must_be_told_what_is_compared(tmp_path):
    for task in _no_split(tmp_path):
        assert task.has_validation == task.over_file
        compared = {example.id for example in task.draw(4, 1)}
        found = task.validation(1 if task.over_file else 3, 1, exclude=task.draw(4, 1))
        assert {example.id for example in found}.isdisjoint(compared)
        assert not task.over_file or all(in_validation(found))


def test_a_fit_on_such_a_task_alone_leaves_the_model_alone(subject, fitted_ids):
    before = snapshot(subject.model)
    for task in ("perplexity", "sinks"):
        with pytest.raises(
            InputError, match=rf"{task} sets no examples apart.*any of them may be compared"
        ) as error:
            fit(hw.load("zoo:lm"), Learned(), task, n=5)
        for remedy in ("exclude=task.draw", "fit on other data", "let hw.compare fit"):
            assert remedy in error.value.remedy
    assert fitted_ids == []
    assert snapshot(subject.model) == before


def test_a_task_with_a_split_needs_no_exclude(fitted_ids):
    lm = hw.load("zoo:lm")
    for exclude in (None, find_task("recall").draw(20, 0)):
        fit(lm, Learned(), "recall", n=10, exclude=exclude)
    assert fitted_ids[0] == fitted_ids[1]
    assert all(id.startswith("validation/") for id in fitted_ids[0])


def test_scores_are_of_the_model_as_it_is_then(subject):
    data = calibration(TaskRun.create(subject, Next(count=160)), 20, 0)
    assert isinstance(data, Calibration)
    plain = data.scores(subject)
    with hw.patch(subject, hw.fixes.ZeroHeads(heads=((0, 0), (0, 1)))):
        silent = data.scores(subject)
    assert plain != silent
    assert data.scores(subject) == plain
    other = small_subject()
    with torch.no_grad():
        other.model.transformer.wte.weight.mul_(-1)
    assert data.scores(other) != plain
    assert len(data.ids) == len(data.prompts) == 20


def test_a_score_is_higher_where_the_example_is_better():
    lm = hw.load("zoo:lm")
    data = calibration(TaskRun.create(lm, find_task("perplexity")), 3, 0)
    answers = data.task_run.run().frame
    expected = [
        -math.exp(nll / tokens) for nll, tokens in zip(answers["nll"], answers["tokens"], strict=True)
    ]
    assert data.scores(lm) == pytest.approx(expected)


def test_prompts_are_enough_for_a_fix_that_needs_no_answers(subject):
    class Reads(Learned):
        def fit(self, subject, data):
            with torch.no_grad():
                subject.model(**subject.prepare(text=[prompt["text"] for prompt in data.prompts]))
            return replace(self, heads=((0, len(data.prompts) % 2),))

    assert fit(subject, Reads(), ["a cat", "a mat on the cat"]).heads == ((0, 0),)
    assert fit(subject, Reads(), [{"text": "a cat"}]).heads == ((0, 1),)
    with pytest.raises(InputError, match="fitted on answers"):
        fit(subject, Learned(), ["a cat"])


def test_bad_fits_are_refused_and_leave_the_model_as_it_was(subject):
    class Fails(Learned):
        def fit(self, subject, data):
            with hw.patch(subject, hw.fixes.ZeroHeads(heads=((0, 0),))):
                raise FixError("No head helps.", evidence="0 of 2")

    class Forgets(Learned):
        def fit(self, subject, data):
            return self

    hw.patch(subject, hw.fixes.ZeroHeads(heads=((0, 0),))).remove()
    before = snapshot(subject.model)
    with pytest.raises(FixError, match="ZeroHeads has nothing to fit"):
        fit(subject, hw.fixes.ZeroHeads(heads=((0, 0),)), Next())
    with pytest.raises(FixError, match="A list has nothing to fit"):
        fit(subject, [Learned()], Next())
    with pytest.raises(FixError, match="No head helps"):
        fit(subject, Fails(), Next(), n=4)
    with pytest.raises(FixError, match="has no heads for this model"):
        fit(subject, Forgets(), Next(), n=4)
    with pytest.raises(InputError, match="nothing to fit on"):
        fit(subject, Learned(), [])
    with pytest.raises(InputError, match="example or more"):
        fit(subject, Learned(), Next(), n=0)
    with pytest.raises(InputError, match="too few examples left"):
        fit(subject, Learned(), Next(), n=41)
    with pytest.raises(InputError, match="no task 'nex'"):
        fit(subject, Learned(), "nex")
    assert snapshot(subject.model) == before


def test_a_model_in_training_mode_is_fitted_in_evaluation_mode(subject):
    modes = []

    class Looks(Learned):
        def fit(self, subject, data):
            modes.append(subject.model.training)
            return replace(self, heads=((0, 0),))

    own = small_subject()
    own.model.train()
    fit(own, Looks(), ["a cat"])
    assert modes == [False]
    assert own.model.training
