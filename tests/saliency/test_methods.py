"""Sums, closed forms and twins of the methods: integrated gradients, removal, rollout, flow, relevancy, LRP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from headwise.errors import InputError
from headwise.functional.relevancy import relevancy, rollout
from headwise.probes.reply import question
from headwise.saliency.explained import Explained
from headwise.saliency.flow import largest_flows
from headwise.saliency.lrp import rules
from headwise.saliency.methods import saliency_maps
from headwise.saliency.paths import baseline
from headwise.testing import tiny_model
from headwise.testing.models import build_model, shared_model
from tests.saliency.test_gradients import TEXT, asked


def patterns(count: int, rows: int, keys: int, *, causal: bool = False) -> list[torch.Tensor]:
    scores = torch.randn(count, rows, keys, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if causal:
        scores = scores.masked_fill(~torch.ones(rows, keys, dtype=torch.bool).tril(), -torch.inf)
    return list(scores.softmax(-1))


class TestIntegratedGradients:
    def test_maps_sum_to_the_difference_of_outputs(self):
        example = asked(shared_model("gpt2"))
        start = baseline(example)
        with torch.no_grad():
            difference = (example.forward()[0] - example.forward(lambda tower, _: start[tower])[0])[0]
        sums = saliency_maps(example, "integrated gradients")["text"].nansum(1)
        assert ((sums - difference).abs() < 1e-3 * difference.abs()).all()

    @pytest.mark.slow
    def test_they_are_those_of_captum(self):
        captum = pytest.importorskip("captum.attr", reason="the extra `saliency` is not installed")
        example = asked(shared_model("gpt2"))
        start = baseline(example)["text"]
        found = saliency_maps(example, "integrated gradients")["text"]
        with torch.no_grad():
            end = example.forward()[1]["text"]

        def first_token(hidden: torch.Tensor) -> torch.Tensor:
            return example.forward(lambda *_: hidden, len(hidden))[0][:, 0]

        other = captum.IntegratedGradients(first_token).attribute(end, start, n_steps=64)[0].sum(-1)
        torch.testing.assert_close(found[0, :6], other[:6].detach().float(), rtol=1e-2, atol=2e-3)

    def test_ablation_is_that_of_captum(self):
        captum = pytest.importorskip("captum.attr", reason="the extra `saliency` is not installed")
        example = asked(shared_model("gpt2"))
        start = baseline(example)["text"]
        with torch.no_grad():
            end = example.forward()[1]["text"]

        def tokens(hidden: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return example.forward(lambda *_: hidden, len(hidden))[0]

        mask = torch.arange(end.shape[1])[None, :, None].expand_as(end)
        other = captum.FeatureAblation(tokens).attribute(end, start, feature_mask=mask)[..., 0]
        found = saliency_maps(example, "ablation")["text"]
        torch.testing.assert_close(found.nan_to_num(0), other.float(), rtol=1e-4, atol=1e-5)


class TestRolloutAndFlow:
    def test_one_layer_is_itself(self):
        (pattern,) = patterns(1, 3, 3)
        mixed = (pattern + torch.eye(3)) / 2
        torch.testing.assert_close(rollout([(pattern, False)])[0], mixed)
        torch.testing.assert_close(
            largest_flows([(pattern, False)], [], [0, 1, 2])[0].double(), mixed, atol=1e-5, rtol=0
        )

    def test_both_towers_share_what_a_row_has(self):
        own, cross, source = patterns(2, 3, 3, causal=True), patterns(2, 3, 4), patterns(2, 4, 4)
        steps = [(own[0], False), (cross[0], True), (own[1], False), (cross[1], True)]
        for one, two in (rollout(steps, source), largest_flows(steps, source, [0, 1, 2])):
            assert two is not None
            torch.testing.assert_close((one.sum(1) + two.sum(1)).double(), torch.ones(3, dtype=torch.float64))

    def test_nothing_but_itself_stays_itself(self):
        torch.testing.assert_close(rollout([(torch.eye(3), False)] * 2)[0], torch.eye(3))

    def test_flow_is_bound_by_its_narrowest_pipe(self):
        """Row 1 of two layers: 3/8 + 1/8 may reach position 0 of 1/2 · 1/2 each way; worked by hand."""
        pattern = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
        flows = largest_flows([(pattern, False)] * 2, [], [1])[0]
        torch.testing.assert_close(flows[1], torch.tensor([0.5 / 1.25, 0.75 / 1.25]), atol=1e-5, rtol=0)

    def test_flow_is_for_short_inputs(self):
        with pytest.raises(InputError, match="Attention flow is for short inputs"):
            largest_flows([(torch.eye(41), False)], [], [0])


def twin(own: list, cross: list, source: list) -> np.ndarray:
    """The rules of Chefer et al. 2021 for an encoder-decoder, element by element."""
    within = np.eye(len(source[0]))
    for a in source:
        within = within + a.numpy() @ within
    r, other = np.eye(len(own[0])), np.zeros(cross[0].shape)

    def alone(x):
        rest = x - np.eye(len(x))
        sums = rest.sum(1)
        return np.array([row / s if s else 0 * row for row, s in zip(rest, sums, strict=True)]) + np.eye(
            len(x)
        )

    for a, c in zip(own, cross, strict=True):
        other = other + a.numpy() @ other
        r = r + a.numpy() @ r
        other = other + alone(r).T @ c.numpy() @ alone(within)
    return other


def test_relevancy_follows_the_rules():
    own, cross, source = patterns(2, 3, 3, causal=True), patterns(2, 3, 4), patterns(2, 4, 4)
    own[0][0] = own[1][0] = 0  # a row without gradient
    steps = [step for a, c in zip(own, cross, strict=True) for step in ((a, False), (c, True))]
    found = relevancy(steps, source)[1]
    assert found is not None
    np.testing.assert_allclose(found.numpy(), twin(own, cross, source))


class TestRelevancePropagation:
    def model(self, **change: Any):
        """ReLU, norms that only scale, and no biases: all of the logit is relevance of the input."""
        settings = {
            "vocab_size": 60,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
        }
        return build_model("LlamaForCausalLM", settings | change, None)

    @pytest.mark.slow
    @pytest.mark.parametrize("activation", ["silu", "relu"])
    def test_cp_conserves_the_logit(self, activation):
        example = asked(self.model(hidden_act=activation), target="logit")
        with torch.no_grad():
            logit = example.forward()[0][0]
        sums = saliency_maps(example, "cp lrp")["text"].nansum(1)
        torch.testing.assert_close(sums, logit, rtol=1e-4, atol=1e-5)
        others = saliency_maps(example, "attention lrp")["text"].nansum(1)
        assert ((others - logit).abs() > 1e-3).any()  # the rule for the softmax leaves a part out

    @pytest.mark.parametrize("name", ["gpt2", "llama"])
    @pytest.mark.parametrize("variant", ["attn", "cp"])
    def test_the_rules_change_no_output(self, name, variant):
        example = asked(shared_model(name))
        with torch.no_grad():
            before = example.logits()[0]
        with rules(example, variant):
            torch.testing.assert_close(example.logits()[0].detach(), before, rtol=0, atol=1e-5)

    def test_activations_that_are_no_modules_are_refused(self):
        model: Any = tiny_model("gpt2")
        for block in model.transformer.h:
            block.mlp.act = torch.nn.Identity()
        with pytest.raises(InputError, match="does not pass through the activations"):
            saliency_maps(Explained(question(asked(model).question.subject, TEXT, generate=1)), "cp lrp")
