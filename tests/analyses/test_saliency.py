"""Saliency as an analysis: its table, its sentence, and bad input."""

from __future__ import annotations

import numpy as np
import pytest

import headwise as hw
from headwise.errors import InputError
from headwise.functional.overlap import DISTANCES, MEASURES
from headwise.testing import tiny_model
from headwise.testing.models import shared_model
from tests.kit.deciders import ANSWER, PLACE, PROMPT, decider


class TestSaliency:
    def test_a_row_is_a_written_token_and_what_it_rests_on(self):
        data = [{"text": PROMPT, "reply": [ANSWER, 2], "id": "a"}, {"text": PROMPT[:3], "reply": [ANSWER]}]
        found = hw.analyses.saliency(hw.wrap(decider(shown=True)), data, target="logit")
        frame = found.frame
        assert frame.groupby(["id", "position"])["source"].apply(list).to_dict() == {
            ("a", 6): [0, 1, 2, 3, 4, 5],
            ("a", 7): [0, 1, 2, 3, 4, 5, 6],
            ("1", 3): [0, 1, 2],
        }
        top = frame.loc[frame.groupby(["id", "position"])["saliency"].idxmax()]
        assert set(top[top["position"] != 7]["source"]) == {PLACE}
        assert "By attention x gradient, tokens of the reply rest on" in found.summary

    def test_examples_have_names_of_their_own(self):
        data = [{"text": PROMPT, "reply": [2], "id": "a"}] * 2
        with pytest.raises(InputError, match="Two examples have the same id"):
            hw.analyses.saliency(hw.wrap(tiny_model("gpt2")), data)

    def test_an_encoder_writes_nothing(self):
        with pytest.raises(InputError, match="generates nothing"):
            hw.analyses.saliency(hw.wrap(tiny_model("bert")), [{"text": [5, 6]}])


class TestSaliencyOverlap:
    @pytest.mark.parametrize(
        "measure",
        [
            name if name in ("pearson", "auc") else pytest.param(name, marks=pytest.mark.slow)
            for name in MEASURES
        ],
    )
    def test_attention_that_shows_what_decides_agrees(self, measure):
        """And attention that looks everywhere alike does not: no correlation, and no more than a flat map has."""
        data = [{"text": PROMPT, "reply": [ANSWER]}]
        options = {
            "method": "attention x gradient",
            "measure": measure,
            "target": "logit",
            "sign": "positive",
        }
        shown, hidden = (
            hw.analyses.saliency_overlap(hw.wrap(decider(shown=way)), data, **options).frame.set_index("view")
            for way in (True, False)
        )
        best = 0.0 if measure in DISTANCES else 1.0
        flat = {
            "jensen_shannon": 0.6548,
            "intersection": -0.2,
            "iou": 0.0,
            "auc": 0.5,
            "earth_mover": 0.3,
            "on_salient": 1 / 6,
        }
        assert shown.loc["L0H0", "overlap"] == pytest.approx(best, abs=1e-3)
        assert hidden.loc["mean", "overlap"] == pytest.approx(
            flat.get(measure, float("nan")), abs=1e-3, nan_ok=True
        )
        assert hidden.loc["mean", "dropped"] == (measure in ("pearson", "spearman"))

    @pytest.mark.slow
    def test_the_best_head_is_chosen_on_the_other_half(self):
        texts = [[5, 17, 23, 9, 31, 44], [7, 8, 50, 11, 3, 29], [9, 9, 40, 12], [60, 61, 3, 8, 9]]
        subject = hw.wrap(shared_model("gpt2"))
        data = [{"text": text, "reply": [6]} for text in texts]
        found = hw.analyses.saliency_overlap(subject, data).frame.set_index("view")
        alone = [
            hw.analyses.saliency_overlap(subject, [one]).frame.set_index("view")["overlap"] for one in data
        ]
        heads = [view for view in alone[0].index if "H" in view]
        values = []
        for number, own in enumerate(alone):
            others = [other for place, other in enumerate(alone) if place % 2 != number % 2]
            best = int((others[0] + others[1])[heads].to_numpy().argmax())
            values.append(float(own[heads].to_numpy()[best]))
        row = found.loc["best head", ["low", "overlap", "high"]].to_numpy().astype(float)
        assert row[1] == pytest.approx(sum(values) / 4)
        assert (np.diff(row) >= 0).all()
        assert found["shuffled"].abs()["mean"] < 0.3
        assert "best head" not in alone[0].index

    def test_a_token_needs_two_positions(self):
        with pytest.raises(InputError, match="rest on two positions"):
            hw.analyses.saliency_overlap(hw.wrap(shared_model("gpt2")), [{"text": [5], "reply": [6]}])


@pytest.mark.parametrize("name", ["saliency_overlap", "faithfulness"])
def test_a_patched_model_has_no_copy_with_random_weights(name):
    subject = hw.wrap(decider(shown=True))
    data = [{"text": PROMPT, "reply": [ANSWER]}] * 2
    patched = hw.patch(subject, "ScaleHeads:heads=[[0,0]],factor=0.5")
    with patched, pytest.raises(InputError, match=r"outside of hw\.patch"):
        getattr(hw.analyses, name)(subject, data)
