"""Visual attention redistribution: golden numbers, a NumPy twin, and what holds on a model that sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import FixError, InputError, NotFitted
from headwise.functional.redistribution import redistribute, sink_score
from headwise.subject.info import ModelInfo, model_info
from headwise.testing.inputs import alone, equal_length_pair, first, forward
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

ROW = torch.tensor([0.30, 0.05, 0.10, 0.20, 0.15, 0.05, 0.10, 0.05]).view(1, 1, 1, 8)
IMAGE = torch.tensor([[False, False, True, True, True, True, False, False]])
SINKS = torch.tensor([[True, False, False, True, False, False, False, False]])
FIX = hw.fixes.VAR(sink_dims=(3, 5), tau=1.5, layers=(0, 1), rho=0.3)


def twin(pattern, image, sinks, *, p, rho, least_mass, require_visual_sink) -> np.ndarray:
    """The paper's rule, row by row, in float64."""
    new = pattern.astype(np.float64).copy()
    for b, h, q in np.ndindex(pattern.shape[:3]):
        row = new[b, h, q]
        clear = image[b] & ~sinks[b]
        mass = sum(row[image[b]])
        if require_visual_sink and not (image[b] & sinks[b]).any():
            continue
        if mass < least_mass or sum(row[clear]) / max(mass, 1e-12) < rho or sum(row[clear]) == 0:
            continue
        budget, total = p * sum(row[sinks[b]]), sum(row[clear])
        for j in range(pattern.shape[-1]):
            if sinks[b, j]:
                row[j] *= 1 - p
            elif clear[j]:
                row[j] += budget * row[j] / total
    return new


class TestRule:
    def test_golden_row(self) -> None:
        new = redistribute(ROW, image=IMAGE, sinks=SINKS, p=0.6, rho=0.5)
        expected = torch.tensor([0.12, 0.05, 0.20, 0.08, 0.30, 0.10, 0.10, 0.05])
        torch.testing.assert_close(new.flatten(), expected, atol=1e-6, rtol=0)

    def test_golden_row_with_a_stricter_choice_of_heads_is_left_alone(self) -> None:
        assert redistribute(ROW, image=IMAGE, sinks=SINKS, p=0.6, rho=0.8) is ROW

    def test_without_visual_sink_text_sinks_keep_their_attention(self) -> None:
        sinks = SINKS & ~IMAGE
        assert redistribute(ROW, image=IMAGE, sinks=sinks, rho=0.5) is ROW
        moved = redistribute(ROW, image=IMAGE, sinks=sinks, rho=0.5, require_visual_sink=False)
        assert moved[..., 0].item() == pytest.approx(0.3 * 0.4)

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6), p=st.floats(0, 1), rho=st.floats(0, 1), need=st.booleans())
    def test_agrees_with_the_twin_and_keeps_sums(self, seed: int, p: float, rho: float, need: bool) -> None:
        draw = torch.Generator().manual_seed(seed)
        pattern = (torch.randn(2, 3, 4, 9, generator=draw) * 2).softmax(-1)
        image, sinks = (torch.rand(2, 9, generator=draw) < 0.5 for _ in range(2))
        given_ = pattern.clone()
        options = {"p": p, "rho": rho, "least_mass": 0.2, "require_visual_sink": need}
        new = redistribute(pattern, image=image, sinks=sinks, **options)
        assert torch.equal(pattern, given_)
        expected = twin(pattern.numpy(), image.numpy(), sinks.numpy(), **options)
        borderline = abs(new.numpy() - expected) > 1e-5  # a share that equals rho to the last bit
        assert borderline.any(-1).sum() <= 1, (new, expected)
        torch.testing.assert_close(new.sum(-1), torch.ones(2, 3, 4), atol=1e-5, rtol=0)
        assert (new >= 0).all()
        visual = (new * image[:, None, None]).sum(-1) - (pattern * image[:, None, None]).sum(-1)
        assert (visual >= -1e-6).all()

    def test_no_share_moved_is_the_same_tensor(self) -> None:
        assert redistribute(ROW, image=IMAGE, sinks=SINKS, p=0.0, rho=0.5) is ROW

    def test_sink_score_cannot_exceed_the_root_of_the_width(self) -> None:
        x = torch.randn(64, generator=torch.Generator().manual_seed(0))
        x[5] = 60.0
        assert 7.9 < sink_score(x, [5]).item() < 8.0


class TestModel:
    def test_positions_up_to_the_image_and_rows_of_the_image_are_untouched(self) -> None:
        model = shared("llava")
        with hw.capture(model, residual=True, stats=False) as plain:
            forward(model, alone(0, "llava"))
        with hw.patch(model, FIX), hw.capture(model, residual=True, stats=False) as fixed:
            forward(model, alone(0, "llava"))
        site = [site for site in plain.sites if site.tower == "text"][-1]
        before, after = plain.residual[site], fixed.residual[site]
        assert torch.equal(before[:, :17], after[:, :17])
        assert not torch.allclose(before[:, 17:], after[:, 17:])

    def test_every_generation_looks_for_its_own_sinks(self) -> None:
        """The released code keeps the sinks of the first image."""
        model, pair = shared("llava"), equal_length_pair("llava")
        halves = [{name: value[i : i + 1] for name, value in pair.items()} for i in (0, 1)]
        with hw.patch(model, FIX):
            one, other, again = (first(forward(model, half)) for half in (*halves, halves[0]))
        with hw.patch(model, FIX):
            fresh = first(forward(model, halves[1]))
        assert torch.equal(one, again)
        assert torch.equal(other, fresh)

    def test_no_share_is_bit_identical(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        plain = first(forward(model, inputs))
        with hw.patch(model, replace(FIX, p=0.0)):
            assert torch.equal(first(forward(model, inputs)), plain)

    def test_patterns_are_the_rule_applied_to_plain_ones(self) -> None:
        model, inputs = shared("llava"), alone(0, "llava")
        fix = replace(FIX, layers=(0,))
        with hw.capture(model, maps=True, residual=True) as plain:
            forward(model, inputs)
        with hw.patch(model, fix), hw.capture(model, maps=True) as fixed:
            forward(model, inputs)
        site = next(site for site in plain.sites if site.tower == "text")
        image = inputs["input_ids"] == 100
        sinks = sink_score(plain.residual[site], [3, 5]) >= 1.5
        pattern = plain.maps[site]
        expected = redistribute(pattern, image=image, sinks=sinks, rho=0.3, rows=~image)
        expected[:, :, :1] = pattern[:, :, :1]  # text before the image
        torch.testing.assert_close(fixed.maps[site], expected, atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float64, 1e-6)])
    def test_other_precisions(self, dtype: torch.dtype, tolerance: float) -> None:
        model, inputs = ARCHITECTURES["llava"].build(), alone(0, "llava")
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        with hw.patch(model.to(dtype), FIX), hw.capture(model, maps=True) as trace, torch.no_grad():
            tokens = model.generate(
                input_ids=inputs["input_ids"],
                pixel_values=inputs["pixel_values"],
                max_new_tokens=3,
                pad_token_id=0,
            )
        for site in trace.sites:
            if site.tower == "text":
                sums = trace.maps[site].double().sum(-1)
                torch.testing.assert_close(sums, torch.ones_like(sums), atol=tolerance, rtol=0)
        assert tokens.shape[1] > inputs["input_ids"].shape[1]


class TestConstants:
    def info(self, **facts: object) -> ModelInfo:
        shape = {"text_family": "llama", "layers": 32, "heads": 32, "width": 4096, "key_heads": 32}
        return ModelInfo(
            **(
                {"name": "m", "family": "llava", "tower": "text", "vocabulary": 32064, "has_vision": True}
                | shape
                | facts
            )
        )

    def test_published_dimensions_layers_and_threshold(self) -> None:
        bound = hw.fixes.VAR().bind(self.info())
        assert bound.sink_dims == (1415, 2533)
        assert bound.layers == tuple(range(2, 31))
        assert bound.tau == pytest.approx(20.0)
        assert "LLaVA-1.5-7B" in bound.source

    def test_released_code_also_changes_the_last_layer(self) -> None:
        assert hw.fixes.VAR(variant="released").bind(self.info()).layers == tuple(range(2, 32))

    def test_a_later_llama_of_the_same_size_is_another_model(self) -> None:
        with pytest.raises(NotFitted, match=r"hw\.fit"):
            hw.fixes.VAR().bind(self.info(key_heads=8, vocabulary=128256))

    def test_fit_finds_a_planted_dimension(self) -> None:
        model = ARCHITECTURES["llava"].build()
        with torch.no_grad():
            model.get_input_embeddings().weight[1, 7] = 50.0  # the first token's embedding
        subject = hw.wrap(model)
        prompts = [alone(i % 2, "llava") for i in range(8)]
        fixed = hw.fixes.VAR(layers=(0, 1)).fit(_Ready(subject), [{"text": str(i)} for i in range(8)])
        assert fixed.sink_dims == (7,)
        assert len(prompts) == 8

    def test_fit_on_a_model_without_sinks_says_so_and_changes_nothing(self) -> None:
        subject = _Ready(hw.wrap(shared("llava")))
        fixed = hw.fixes.VAR(layers=(0, 1), tau=5.5).fit(subject, [{"text": "a"}] * 8)
        assert fixed.sink_dims == ()
        assert fixed.neutral
        assert "no dimension" in fixed.source

    def test_too_few_prompts(self) -> None:
        with pytest.raises(InputError, match="8 prompts"):
            hw.fixes.VAR().fit(_Ready(hw.wrap(shared("llava"))), [{"text": "a"}] * 7)


class _Ready:
    """A subject whose every prompt is one with an image."""

    def __init__(self, subject: hw.Subject) -> None:
        self.subject, self.model, self.processor = subject, subject.model, None

    def prepare(self, **_: object) -> dict[str, torch.Tensor]:
        return alone(0, "llava")


class TestBadInput:
    @pytest.mark.parametrize(
        "options",
        [
            {"p": 1.2},
            {"p": float("nan")},
            {"rho": -0.1},
            {"tau": 0.0},
            {"tau": "high"},
            {"layers": (-1,)},
            {"sink_dims": (1.5,)},
            {"variant": "mine"},
            {"no_image": "ignore"},
        ],
    )
    def test_parameters_out_of_range(self, options: dict) -> None:
        with pytest.raises(FixError):
            hw.fixes.VAR(**options)

    def test_a_text_model(self) -> None:
        model = shared("llama")
        with pytest.raises(FixError, match="takes none"):
            hw.patch(model, FIX)
        assert not [name for name in vars(model) if "headwise" in name]

    @pytest.mark.parametrize(
        ("options", "match"),
        [({"layers": (2,)}, "layer 2"), ({"sink_dims": (32,)}, "dimension 32"), ({"tau": 9.0}, "can reach")],
    )
    def test_what_the_model_does_not_have(self, options: dict, match: str) -> None:
        with pytest.raises(FixError, match=match):
            hw.patch(shared("llava"), replace(FIX, **options))

    def test_a_shallow_model_has_no_layer_of_its_own(self) -> None:
        with pytest.raises(FixError, match="Name layers="):
            hw.patch(shared("llava"), replace(FIX, layers=None))

    @pytest.mark.parametrize("fix", [FIX, hw.fixes.VHR(layers=(1,))])
    def test_a_prompt_without_image(self, fix: object) -> None:
        model, text = shared("llava"), alone(0)
        plain = first(forward(model, text))
        with hw.patch(model, fix), pytest.raises(InputError, match="no image"):
            forward(model, text)
        with hw.patch(model, replace(fix, no_image="skip")):
            assert torch.equal(first(forward(model, text)), plain)
        assert torch.equal(first(forward(model, text)), plain)


def test_info_tells_a_model_that_sees() -> None:
    assert model_info(shared("llava")).has_vision
    assert not model_info(shared("llama")).has_vision
