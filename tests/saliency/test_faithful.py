"""Faithfulness: areas by hand, the ends of the curves, maps that are right and wrong by construction, captum's own."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.errors import InputError
from headwise.functional.faithfulness import curve_area, top_positions
from headwise.saliency.faithful import curves, infidelity, least_likely, sensitivity
from headwise.saliency.heads import on, randomised
from headwise.saliency.methods import saliency_maps
from headwise.testing.models import shared_model
from tests.kit.deciders import ANSWER, PLACE, PROMPT, decider
from tests.saliency.test_gradients import asked

DATA = [{"text": PROMPT, "reply": [ANSWER]}]


def test_the_area_of_a_straight_line_is_a_half():
    assert curve_area([0.0, 0.3, 1.0], torch.tensor([1.0, 0.7, 0.0])).item() == pytest.approx(0.5)


def test_at_least_one_position_goes_and_none_for_nothing():
    row, may = torch.tensor([2.0, 9.0, 2.0]), torch.tensor([True, False, True])
    assert top_positions(row, may, 0.01).tolist() == [True, False, False]
    assert not top_positions(row, may, 0.0).any()
    assert top_positions(row, may, 1.0).tolist() == may.tolist()


class TestCurves:
    def scores(self, place: int | None, *, shown: bool = False) -> dict[str, float]:
        example = asked(decider(shown=shown), DATA[0])
        saliency = torch.zeros(1, len(PROMPT))
        saliency[0, place] = 1
        return {name: value.item() for name, value in curves(example, "text", saliency).items()}

    @pytest.mark.parametrize("shown", [True, False])
    def test_the_map_that_is_right_is_followed_most(self, shown):
        right, wrong = self.scores(PLACE, shown=shown), self.scores(4, shown=shown)
        assert right["deletion"] < wrong["deletion"]
        assert right["insertion"] > wrong["insertion"]
        assert right["comprehensiveness"] > wrong["comprehensiveness"]
        assert right["sufficiency"] < wrong["sufficiency"]

    def test_a_map_is_worth_its_order_alone(self):
        example = asked(shared_model("gpt2"))
        saliency = torch.rand(2, 7, generator=torch.Generator().manual_seed(0))
        one, two = curves(example, "text", saliency), curves(example, "text", saliency**3 + 5)
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_sums_that_are_exact_have_no_infidelity():
    """Of an answer that is linear in what is there: the values of uniform attention, by ablation of the logit."""
    example = asked(decider(shown=False), DATA[0], target="logit")
    found = saliency_maps(example, "ablation")["text"]
    other = torch.rand(found.shape, generator=torch.Generator().manual_seed(1))
    assert infidelity(example, "text", found, 0) < 0.2 * infidelity(example, "text", other, 0)


def test_noise_moves_a_map_a_little():
    example = asked(shared_model("gpt2"))

    def method(one):
        return saliency_maps(one, "gradient x input")["text"]

    none, some = sensitivity(example, method, 0, radius=0.0), sensitivity(example, method, 0)
    assert (none == 0).all()
    assert ((some > 0) & (some < 1)).all()


def test_random_weights_are_those_of_the_model_in_another_order():
    model = shared_model("llama")
    other = randomised(hw.wrap(model)).model
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.flatten().sort().values, two.flatten().sort().values)
    assert not torch.equal(model.lm_head.weight, other.lm_head.weight)
    example = asked(model)
    assert on(randomised(example.question.subject), example).question.reply == example.question.reply


def test_the_least_likely_token_is_explained():
    example = asked(shared_model("gpt2"))
    other = least_likely(example)
    with torch.no_grad():
        logits = example.logits()[0][0].log_softmax(-1)
        torch.testing.assert_close(other.forward()[0][0], logits.min(-1).values)


class TestAnalysis:
    @pytest.mark.slow
    def test_attention_that_is_flat_is_followed_less_than_saliency(self):
        methods = ("attention", "attention x gradient")
        found = hw.analyses.faithfulness(hw.wrap(decider(shown=False)), DATA, methods=methods)
        wide = found.frame.pivot_table(index="method", columns="score", values="value")
        assert wide["deletion"].idxmin() == wide["insertion"].idxmax() == "attention x gradient"
        assert wide["class_sensitivity"].isna()["attention"]  # it is constant
        assert set(found.frame["score"]) >= {"sensitivity", "infidelity", "sufficiency"}
        assert "attention x gradient is followed most" in found.summary

    def test_an_unknown_score_is_named(self):
        with pytest.raises(InputError, match=r"no score of faithfulness 'delete'.*deletion"):
            hw.analyses.faithfulness(hw.wrap(shared_model("gpt2")), DATA, scores=("delete",))
