"""Vision-aware head reinforcement: golden numbers, and the choice of heads against two separate passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import headwise as hw
from headwise.errors import FixError
from headwise.functional.divergence import head_divergence, sensitive_heads
from headwise.subject.info import ModelInfo
from headwise.testing.inputs import alone, decode, equal_length_pair, first, forward, together
from tests.tiny.shared import shared

DIVERGENCE = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20])
ENERGY = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 30])


class TestChoice:
    @pytest.mark.parametrize("deviation", ["sample", "population"])
    def test_golden_layer(self, deviation: str) -> None:
        chosen = sensitive_heads(DIVERGENCE, ENERGY, deviation=deviation)
        assert chosen.nonzero().flatten().tolist() == [3, 4, 5, 6]

    def test_a_large_divergence_alone_is_no_outlier(self) -> None:
        chosen = sensitive_heads(DIVERGENCE, torch.ones(8))
        assert chosen.nonzero().flatten().tolist() == [4, 5, 6, 7]

    def test_a_large_output_alone_is_no_outlier(self) -> None:
        falling = torch.arange(8.0, 0.0, -1.0)
        assert torch.equal(sensitive_heads(falling, ENERGY), falling > 4)

    def test_half_of_distinct_heads_are_chosen(self) -> None:
        values = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).abs()
        assert (sensitive_heads(values, torch.ones(50, 8)).sum(-1) == 4).all()

    def test_divergence_of_one_branch_with_itself_is_zero_and_signs_do_not_matter(self) -> None:
        draw = torch.Generator().manual_seed(1)
        a, b = torch.randn(2, 4, 8, generator=draw).unbind(0)
        assert (head_divergence(a, a) == 0).all()
        torch.testing.assert_close(head_divergence(-a, -b), head_divergence(a, b))


class TestModel:
    def outputs(self, model, inputs, fix=None):
        """Head outputs at the last position, one tensor (head, width) per layer."""
        handle = hw.patch(model, fix) if fix is not None else None
        try:
            with hw.capture(model, heads=True, stats=False) as trace:
                forward(model, inputs)
        finally:
            if handle is not None:
                handle.remove()
        return [trace.records[site]["z"][0, -1] for site in trace.sites if site.tower == "text"]

    def chosen(self, model, inputs, fix) -> list[list[int]]:
        """Heads that a patched model multiplies, per layer, read off its head outputs before and after."""
        found = []
        for layer in fix.layers:
            with hw.capture(model, heads=True, stats=False) as plain:
                forward(model, inputs)
            with hw.patch(model, replace(fix, layers=(layer,))), hw.capture(model, heads=True) as trace:
                forward(model, inputs)
            site = next(s for s in plain.sites if (s.tower, s.layer) == ("text", layer))
            z, new = plain.records[site]["z"], trace.records[site]["z"]
            ratio = (new / z)[0].median(0).values.median(-1).values
            found.append([head for head, factor in enumerate(ratio.tolist()) if factor > 1.5])
        return found

    def test_first_layer_equals_two_separate_passes(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        seeing = self.outputs(model, inputs)
        text = inputs["input_ids"][:, [0, *range(17, 29)]]
        blind = self.outputs(model, {"input_ids": text})
        for layer in (0, 1):
            energy = blind[layer].square().sum(-1)
            expected = sensitive_heads(head_divergence(seeing[layer], blind[layer]), energy)
            found = self.chosen(model, inputs, hw.fixes.VHR(layers=(layer,)))[0]
            assert found == expected.nonzero().flatten().tolist()

    def test_a_layer_is_measured_with_the_earlier_ones_reinforced(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        first_heads = self.chosen(model, inputs, hw.fixes.VHR(layers=(0,)))[0]
        scaled = hw.fixes.ScaleHeads(heads=[(0, head) for head in first_heads], factor=2.0)
        seeing = self.outputs(model, inputs, scaled)[1]
        text = inputs["input_ids"][:, [0, *range(17, 29)]]
        blind = self.outputs(model, {"input_ids": text}, scaled)[1]
        expected = sensitive_heads(head_divergence(seeing, blind), blind.square().sum(-1))
        both = [
            scaled,
            hw.fixes.ScaleHeads(heads=[(1, h) for h in expected.nonzero().flatten().tolist()], factor=2.0),
        ]
        with hw.patch(model, both):
            by_hand = first(forward(model, inputs))
        with hw.patch(model, hw.fixes.VHR(layers=(0, 1))):
            torch.testing.assert_close(first(forward(model, inputs)), by_hand, atol=1e-5, rtol=1e-5)

    def test_earlier_fixes_of_a_patch_count_while_heads_are_chosen(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        blinded = hw.fixes.MaskKeys(keys=range(1, 17))
        with hw.patch(model, [blinded, hw.fixes.VHR(layers=(0,), without="mask")]):
            together_ = first(forward(model, inputs))
        with hw.patch(model, blinded):
            alone_ = first(forward(model, inputs))
        # Nothing diverges where no head sees the image, so nothing is reinforced.
        torch.testing.assert_close(together_, alone_, atol=1e-6, rtol=1e-6)

    def test_two_patches_of_a_layer_each_equal_one_of_both_layers(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        first_, second, both = (
            hw.fixes.VHR(layers=layers, scale_both=False) for layers in ((0,), (1,), (0, 1))
        )
        with hw.patch(model, both):
            expected = first(forward(model, inputs))
        with hw.patch(model, [first_, second]):
            torch.testing.assert_close(first(forward(model, inputs)), expected, atol=1e-5, rtol=1e-5)
        with hw.patch(model, first_), hw.patch(model, second):
            torch.testing.assert_close(first(forward(model, inputs)), expected, atol=1e-5, rtol=1e-5)

    def test_masking_the_image_equals_dropping_it_but_for_places(self) -> None:
        """Rotary positions differ; without them the two ways are one. Here: both run, and both act."""
        model, inputs = shared("llava"), together("left", "llava")
        plain = first(forward(model, inputs))
        for without in ("drop", "mask"):
            with hw.patch(model, hw.fixes.VHR(layers=(0, 1), without=without)):
                assert not torch.allclose(first(forward(model, inputs)), plain, atol=1e-4)

    def test_factor_one_is_bit_identical(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        plain = first(forward(model, inputs))
        with hw.patch(model, hw.fixes.VHR(alpha=1.0, layers=(0, 1))):
            assert torch.equal(first(forward(model, inputs)), plain)

    def test_random_heads_are_as_many_and_others(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        fix = hw.fixes.VHR(layers=(0,))
        chosen = self.chosen(model, inputs, fix)[0]
        others = [
            self.chosen(model, inputs, replace(fix, choose="random", seed=seed))[0] for seed in range(6)
        ]
        assert all(len(other) == len(chosen) for other in others)
        assert any(other != chosen for other in others)

    def test_a_capture_records_the_prompt_once_and_reinforced(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        with hw.patch(model, hw.fixes.VHR(layers=(1,))), hw.capture(model, heads=True) as trace:
            forward(model, inputs)
        assert len(trace.to_frame("head").query("tower == 'text'")["example"].unique()) == 1
        assert trace.records[trace.sites[-1]]["z"].shape[0] == 1

    def test_beams_and_batch_agree_with_single_prompts(self) -> None:
        model, pair = shared("llava"), equal_length_pair("llava")
        fix = hw.fixes.VHR(layers=(0, 1))
        options = {
            "num_beams": 3,
            "max_new_tokens": 4,
            "min_new_tokens": 4,
            "do_sample": False,
            "pad_token_id": 0,
        }
        inputs = {name: value for name, value in pair.items() if name != "position_ids"}
        with hw.patch(model, fix):
            batch = model.generate(**inputs, **options)
            for i in (0, 1):
                half = {name: value[i : i + 1] for name, value in inputs.items()}
                assert torch.equal(model.generate(**half, **options)[0], batch[i])

    def test_an_error_while_heads_are_chosen_leaves_the_model_as_it_was(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        plain = first(forward(model, inputs))
        fix = hw.fixes.VHR(layers=(0,))
        embeds = model.get_input_embeddings()(
            inputs["input_ids"]
        )  # outside of the patch: nobody knows the ids
        with hw.patch(model, fix):
            with pytest.raises(hw.HeadwiseError):
                model(inputs_embeds=embeds, pixel_values=inputs["pixel_values"])
            again = first(forward(model, inputs))
        with hw.patch(model, fix):
            assert torch.equal(first(forward(model, inputs)), again)
        assert torch.equal(first(forward(model, inputs)), plain)

    def test_decoding_keeps_the_heads_of_the_prompt(self) -> None:
        model, pair = shared("llava"), equal_length_pair("llava")
        with hw.patch(model, hw.fixes.VHR(layers=(0, 1))):
            tokens, logits = decode(model, pair, use_cache=True)
            half = {name: value[:1] for name, value in pair.items()}
            alone_tokens, alone_logits = decode(model, half, use_cache=True)
        assert torch.equal(tokens[:1], alone_tokens)
        torch.testing.assert_close(logits[:1], alone_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0])
def test_reinforcing_turns_the_layer_towards_the_head(alpha: float) -> None:
    """Proposition 1 of the paper: the cosine of residual plus writes with the head's write grows."""
    draw = torch.Generator().manual_seed(3)
    residual, write, other = torch.randn(3, 200, 32, generator=draw).unbind(0)

    def cosine(factor: float) -> torch.Tensor:
        return torch.cosine_similarity(residual + other + factor * write, write, dim=-1)

    assert (cosine(alpha) > cosine(1.0)).all()


def test_layers_by_table_and_by_depth() -> None:
    facts = {
        "name": "m",
        "text_family": "llama",
        "tower": "text",
        "heads": 32,
        "width": 64,
        "has_vision": True,
    }
    assert hw.fixes.VHR().bind(ModelInfo(family="llava", layers=32, **facts)).layers == (1, *range(18, 32))
    assert hw.fixes.VHR().bind(ModelInfo(family="instructblip", layers=32, **facts)).layers == tuple(
        range(14, 32)
    )
    other = hw.fixes.VHR().bind(ModelInfo(family="qwen2_vl", layers=28, **facts))
    assert other.layers == (1, *range(16, 28))
    assert "ours" in other.source


@pytest.mark.parametrize(
    "options",
    [{"alpha": -1.0}, {"alpha": float("inf")}, {"without": "blank"}, {"seed": -1}, {"layers": "all"}],
)
def test_parameters_out_of_range(options: dict) -> None:
    with pytest.raises(FixError):
        hw.fixes.VHR(**options)


def test_a_text_model() -> None:
    with pytest.raises(FixError, match="takes none"):
        hw.patch(shared("llama"), hw.fixes.VHR())
