"""Saliency by gradients: finite differences, sums of patterns, known answers, and what has no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from headwise.errors import InputError
from headwise.probes.reply import question
from headwise.saliency.explained import Explained
from headwise.saliency.methods import METHODS, REFUSED, saliency_maps
from headwise.testing import tiny_model
from headwise.testing.models import shared_model, ungrouped
from tests.kit.deciders import ANSWER, PLACE, PROMPT, decider

OF_TEXT = [name for name in METHODS if name not in ("spes", "random masks")]
TEXT = {"text": [5, 17, 23, 9, 31, 44], "reply": [7, 9]}


QUICK = ("gradient x input", "attention x gradient", "relevancy")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OF_TEXT]


def asked(model, example=TEXT, **options) -> Explained:
    subject = model if isinstance(model, hw.Subject) else hw.wrap(model)
    return Explained(question(subject, example, generate=2), **options)


@pytest.fixture(scope="module")
def nmt():
    return hw.load("zoo:nmt"), {**hw.zoo.sample("nmt").inputs, "target": "Jumapili, 22"}


class TestGradientTimesInput:
    @pytest.mark.parametrize("target", ["logit", "log_probability"])
    def test_it_is_the_slope_towards_nothing(self, target):
        """Twin: of every position, the difference quotient when what enters there shrinks a little."""
        example = asked(tiny_model("gpt2").double(), target=target)
        found = saliency_maps(example, "gradient x input")["text"]
        for place in range(found.shape[1]):
            scale = torch.ones(found.shape[1], 1, dtype=torch.float64)
            ends = []
            for step in (1e-5, -1e-5):
                scale[place] = 1 + step
                with torch.no_grad():
                    ends.append(example.forward(lambda _, hidden, scale=scale: hidden * scale)[0][0])
            slope = ((ends[0] - ends[1]) / 2e-5).numpy()
            read = ~found[:, place].isnan().numpy()
            np.testing.assert_allclose(found[:, place].numpy()[read], slope[read], atol=1e-6)
            assert (np.abs(slope[~read]) < 1e-9).all()  # a token rests on nothing behind it

    def test_both_towers_of_an_encoder_decoder(self, nmt):
        example = asked(*nmt)
        maps = saliency_maps(example, "gradient x input")
        assert list(maps) == ["encoder", "decoder"]
        last = example.question.positions[-1]
        assert maps["decoder"].shape[1] == last
        assert maps["decoder"][0].isnan().sum() == last - example.question.positions[0]

    def test_what_the_cross_attention_reads(self, nmt):
        example = asked(*nmt, at="encoder_output")
        assert list(saliency_maps(example, "norm gradient")) == ["encoder"]
        plain = asked(*nmt)
        with torch.no_grad():
            torch.testing.assert_close(example.forward()[0], plain.forward()[0])


class TestAttentionTimesGradient:
    @pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
    def test_it_is_the_sum_over_patterns(self, name):
        """Twin: every pattern and its gradient, T × T."""
        example = asked(shared_model(name))
        found = saliency_maps(example, "attention x gradient")["text"]
        with hw.capture(example.question.subject, stats=False, maps=True, gradients=True) as trace:
            values, _ = example.forward()
        for token, value in enumerate(values[0]):
            patterns = [trace.records[site]["maps"] for site in trace.sites]
            slopes = torch.autograd.grad(value, patterns, retain_graph=True)
            products = [(a * s).detach()[0].sum((0, 1)) for a, s in zip(patterns, slopes, strict=True)]
            expected = torch.stack(products).sum(0)
            read = ~found[token].isnan()
            torch.testing.assert_close(found[token, read], expected[read], rtol=1e-4, atol=1e-6)

    def test_cross_attention_is_of_the_source(self, nmt):
        assert set(saliency_maps(asked(*nmt), "attention x gradient")) == {"encoder", "decoder"}


@pytest.mark.parametrize("method", EVERY)
class TestEveryMethod:
    def test_grouped_heads_count_as_heads(self, method):
        model = shared_model("llama")
        one, two = (saliency_maps(asked(each), method)["text"] for each in (model, ungrouped(model)))
        torch.testing.assert_close(one, two, equal_nan=True)

    def test_half_precision_ranks_alike(self, method):
        model = shared_model("llama")
        whole = saliency_maps(asked(model), method)["text"]
        half = saliency_maps(asked(tiny_model("llama").bfloat16()), method)["text"]
        read = ~whole.isnan()
        assert half.dtype == torch.float32
        assert torch.corrcoef(torch.stack([whole[read], half[read]]))[0, 1] > 0.95

    def test_a_token_rests_on_nothing_behind_it(self, method):
        model = shared_model("gpt2")
        short = saliency_maps(asked(model, {**TEXT, "reply": [7]}), method)["text"]
        long = saliency_maps(asked(model, {**TEXT, "reply": [7, 30, 9]}), method)["text"]
        torch.testing.assert_close(short[0], long[0, : short.shape[1]], rtol=1e-4, atol=1e-6)
        assert long[0, short.shape[1] :].isnan().all()

    def test_the_model_is_as_before(self, method):
        model = shared_model("llama")
        before = [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]
        saliency_maps(asked(model), method)
        assert [(name, parameter.requires_grad) for name, parameter in model.named_parameters()] == before
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("method", EVERY)
def test_the_decisive_position_is_found(method, shown):
    """By what knows of the answer. Norms of the gradient are largest at the row itself, behind a LayerNorm; attention
    alone shows the position where the head looks at it, and not where it looks at all alike.
    """
    found = method not in ("gradient", "norm gradient") and (
        shown or method not in ("attention", "rollout", "flow")
    )
    example = asked(decider(shown=shown), {"text": PROMPT, "reply": [ANSWER]}, target="logit")
    values = saliency_maps(example, method)["text"][0, : -1 if method in ("rollout", "flow") else None]
    spread = values.max() - values.min() > 1e-4 * values.abs().max()
    assert bool(values.argmax() == PLACE and spread) == found


def test_a_divergence_has_no_gradient():
    with pytest.raises(InputError, match="has no gradient there"):
        saliency_maps(asked(shared_model("gpt2"), target="kl"), "gradient")


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match=r"no method of saliency 'gradients'.*gradient x input"):
        saliency_maps(asked(shared_model("gpt2")), "gradients")


@pytest.mark.parametrize("method", REFUSED)
def test_what_is_silently_wrong_is_refused_with_the_reason(method):
    with pytest.raises(InputError, match=f"{method} is not offered: .*gradient x input"):
        saliency_maps(asked(shared_model("gpt2")), method)


def test_a_decoder_has_no_encoder_output():
    with pytest.raises(InputError, match="no encoder whose output"):
        asked(shared_model("gpt2"), at="encoder_output")
