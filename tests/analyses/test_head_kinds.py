"""Kinds of heads: the circuit that is known, thresholds, and models that learned nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import InputError
from headwise.testing import known_circuit
from headwise.testing.models import TINY_MODELS, build_model
from tests.kit.subjects import language, word_tokenizer
from tests.tiny.shared import shared


def test_every_head_of_the_known_circuit_is_named():
    """L2H0 moves what L1H0 found, from where it was found: the same place, and it alone writes what it reads."""
    found = analyses.head_kinds(known_circuit())
    named = found.frame.set_index(["layer", "head"])
    kinds = {head: row["head_kind"] for head, row in named.iterrows() if row["head_kind"] != "none"}
    assert kinds == {
        (0, 0): "previous token",
        (0, 1): "duplicate token",
        (0, 3): "sink",
        (1, 0): "induction",
        (2, 0): "induction",
    }
    assert named.loc[(2, 0), "copying"] == pytest.approx(1)
    assert np.isnan(named.loc[(1, 0), "copying"])
    assert found.summary == (
        "Of 12 heads 7 have no kind; induction 2, previous token 1, duplicate token 1, sink 1."
    )
    assert len(found.panels()) == 5  # a map for every word


@pytest.mark.slow
def test_the_evidence_is_that_of_the_types():
    model = shared("gpt2")
    kinds = analyses.head_kinds(model, sequences=2).frame
    types = analyses.head_types(model, sequences=2).frame
    types = types[types["type"] != "copying"]
    excess = (types["score"] - types["baseline"]) / (1 - types["baseline"])
    best = types.loc[excess.groupby([types["layer"], types["head"]]).idxmax()]
    np.testing.assert_allclose(kinds["score"], best["score"])
    assert (kinds["head_kind"] == "none").all()
    low = analyses.head_kinds(model, sequences=2, least=1e-6).frame
    assert (low["head_kind"] == low["nearest"]).all()


@pytest.mark.slow
def test_examples_add_what_random_tokens_do_not_show():
    subject = hw.wrap(language().model, word_tokenizer())
    text = [{"text": "a cat sat . on the mat . the cat sat ."}, {"text": "what is this ?"}]
    with pytest.raises(InputError, match="list of examples"):
        analyses.head_kinds(subject, [4], least=0.1)
    frame = analyses.head_kinds(subject, text, period=8, least=1e-6).frame
    alone = analyses.head_kinds(subject, period=8, least=1e-6).frame
    assert (frame["excess"] >= alone["excess"]).all()
    assert list(frame["tower"].unique()) == ["text"]


@pytest.mark.parametrize("least", [0.0, 1.5, -1.0])
def test_a_threshold_that_cannot_be_is_refused(least):
    with pytest.raises(InputError, match="above 0 and up to 1"):
        analyses.head_kinds(shared("gpt2"), least=least)


@pytest.mark.slow
def test_a_report_draws_a_map_of_kinds(tmp_path):
    page = hw.report(
        hw.wrap(shared("gpt2")),
        tmp_path / "r.html",
        examples=[{"text": [5, 6, 7, 8]}],
        analyses=["head_kinds"],
    )
    text = page.read_text(encoding="utf-8")
    assert "heads 8 have no kind" in text
    assert 'href="#head-text-01-03"' in text


@pytest.mark.slow
def test_less_than_one_head_in_a_hundred_of_random_models_has_a_kind():
    kinds = []
    for name in ("gpt2", "llama", "gemma2", "bert"):
        tiny = TINY_MODELS[name]
        for seed in range(6):
            for deviation in (0.02, 0.15, 0.4):
                model = build_model(tiny.class_name, tiny.settings, tiny.attention)
                generator = torch.Generator().manual_seed(seed)
                for parameter in model.parameters():
                    if parameter.dim() >= 2:
                        torch.nn.init.normal_(parameter, std=deviation, generator=generator)
                kinds += analyses.head_kinds(model, sequences=2).frame["head_kind"].tolist()
    print(f"{len(kinds) - kinds.count('none')} of {len(kinds)} heads have a kind")
    assert len(kinds) == 576
    assert len(kinds) - kinds.count("none") < 5.76
