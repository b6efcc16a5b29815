"""`hw.fit`, and what a fix is given to learn from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.evaluation import find_task
from headwise.evaluation.calibration import calibration
from headwise.evaluation.fitting import fit
from headwise.evaluation.questions import Questions
from headwise.fixes.calibration import Calibration
from tests.helpers_compare import Learned, Next, small_subject
from tests.tiny.snapshot import snapshot


@pytest.fixture(scope="module")
def subject():
    return small_subject()


def test_a_fix_is_fitted_on_the_validation_split(subject):
    fix = Learned()
    found = fit(subject, fix, Next(), n=10, seed=3)
    assert found.heads == ((0, 0),)
    (seen,) = fix.seen
    assert seen["name"] == "next, validation, n = 10, seed 3"
    assert len(seen["prompts"]) == len(seen["scores"]) == 10
    assert set(seen["scores"]) <= {0.0, 1.0}
    hw.patch(subject, found).remove()


def test_scores_are_of_the_model_as_it_is_then(subject):
    data = calibration(Questions.of(subject, Next()), 20, 0)
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
    data = calibration(Questions.of(lm, find_task("perplexity")), 3, 0)
    answers = data.questions.ask().frame
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
