"""Saliency as an analysis: its table, its sentence, and bad input."""

from __future__ import annotations

import pytest

import headwise as hw
from headwise.errors import InputError
from headwise.testing import tiny_model
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
