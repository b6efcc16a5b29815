"""Fixes in ways of running a model that are easily got wrong: static caches, drafts, gradients, odd calls."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.fixes.parsing import parse_fix
from headwise.testing.inputs import PADDED, alone, first, forward, random_ids, together
from tests.kit.fixes import FIXES
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.shared import shared

VAR = FIXES["var"](0)
VHR = hw.fixes.VHR(layers=(0, 1))
MASKING = hw.fixes.VHR(layers=(0, 1), without="mask")
ACT = FIXES["act"](0)
GREEDY = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "pad_token_id": 0}
vision_fixes = pytest.mark.parametrize("fix", [VAR, VHR, MASKING], ids=["VAR", "VHR", "VHR masking"])


def logits_of(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    """Logits of greedy decoding, (example, step, word)."""
    inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
    options = GREEDY | {"output_logits": True, "return_dict_in_generate": True} | options
    return torch.stack(model.generate(**inputs, **options).logits, 1)


class TestStaticCache:
    """`generate` hands over masks of four axes, or one per kind of layer."""

    @pytest.mark.parametrize("name", ["llama", "gemma2", "mistral"])
    def test_padding_is_known_to_act(self, name: str) -> None:
        model, batch = shared(name), together("left")
        with hw.patch(model, ACT):
            dynamic = logits_of(model, batch)
            static = logits_of(model, batch, cache_implementation="static")
        torch.testing.assert_close(static, dynamic, atol=1e-4, rtol=1e-4)

    @vision_fixes
    def test_padding_is_known_to_vision_fixes(self, fix: Any) -> None:
        model, batch = shared("llava"), together("left", "llava")
        with hw.patch(model, fix):
            dynamic = logits_of(model, batch)
            static = logits_of(model, batch, cache_implementation="static")
        torch.testing.assert_close(static, dynamic, atol=1e-4, rtol=1e-4)

    def test_padding_is_known_to_captures(self) -> None:
        model, batch = shared("llama"), together("left")
        with hw.capture(model) as trace:
            logits_of(model, batch, cache_implementation="static")
        padding = hw.TokenLayout(trace.layout.axes).axes["text"].valid[1]
        assert padding[: PADDED + 2].tolist() == [False] * PADDED + [True] * 2


class TestCalls:
    @vision_fixes
    def test_the_order_of_arguments_does_not_matter(self, fix: Any) -> None:
        model, inputs = shared("llava_next"), ARCHITECTURES["llava_next"].inputs["plain"]()
        turned = dict(sorted(inputs.items(), reverse=True))
        with hw.patch(model, fix), torch.no_grad():
            assert torch.equal(model(**inputs).logits, model(**turned).logits)

    @pytest.mark.parametrize("side", ["left", "right"])
    @vision_fixes
    def test_an_example_without_image_is_left_alone_in_a_mixed_batch(self, fix: Any, side: str) -> None:
        from dataclasses import replace

        model = shared("llava")
        seeing, text = alone(0, "llava"), random_ids(1, 20, seed=9)
        room = seeing["input_ids"].shape[1] - 20
        pads = (room, 0) if side == "left" else (0, room)
        real = torch.nn.functional.pad(torch.ones(1, 20, dtype=torch.long), pads)
        batch = {
            "input_ids": torch.cat([seeing["input_ids"], torch.nn.functional.pad(text, pads)]),
            "attention_mask": torch.cat([torch.ones_like(seeing["input_ids"]), real]),
            "pixel_values": seeing["pixel_values"],
        }
        batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp_min(0)
        plain = first(forward(model, batch))
        with hw.patch(model, fix), pytest.raises(InputError, match="example 1 holds no image"):
            forward(model, batch)
        with hw.patch(model, replace(fix, no_image="skip")):
            fixed = first(forward(model, batch))
        kept = real[0].bool()
        torch.testing.assert_close(fixed[1][kept], plain[1][kept], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(fixed[0], plain[0], atol=1e-4)

    def test_heads_that_the_image_cannot_reach_are_not_chosen(self) -> None:
        """A sliding window hides the image from the last row: divergences there are rounding errors."""
        model, inputs = shared("gemma3"), ARCHITECTURES["gemma3"].inputs["plain"]()
        plain = first(forward(model, inputs))
        with hw.patch(model, hw.fixes.VHR(layers=(0,))):
            assert torch.equal(first(forward(model, inputs)), plain)

    @pytest.mark.parametrize("fix", [VHR, MASKING], ids=["drop", "mask"])
    def test_drafts_are_no_part_of_the_prompt(self, fix: Any) -> None:
        model, helper = shared("llava"), shared("llama")
        inputs = {name: value for name, value in alone(0, "llava").items() if name != "position_ids"}
        with hw.patch(model, fix):
            plain = model.generate(**inputs, **GREEDY)
            assisted = model.generate(**inputs, assistant_model=helper, **GREEDY)
        assert torch.equal(plain, assisted)

    def test_qwen3_vl_hands_features_of_several_layers_to_generate(self) -> None:
        model, inputs = shared("qwen3_vl"), ARCHITECTURES["qwen3_vl"].inputs["plain"]()
        with hw.patch(model, MASKING):
            fixed = first(forward(model, inputs))
            torch.testing.assert_close(logits_of(model, inputs)[:, 0], fixed[:, -1], atol=1e-4, rtol=1e-4)

    def test_rows_before_an_examples_own_image_are_untouched_in_a_batch(self) -> None:
        """PaliGemma reads its prompt both ways, so such rows do see the image."""
        model = shared("paligemma")
        one = ARCHITECTURES["paligemma"].inputs["plain"]()
        late = {**one, "input_ids": torch.cat([random_ids(1, 3, seed=2), one["input_ids"][:, 1:-2]], 1)}
        batch = {name: torch.cat([one[name], late[name]]) for name in one}
        with hw.patch(model, VAR):
            together_ = first(forward(model, batch))
            singly = [first(forward(model, half)) for half in (one, late)]
        torch.testing.assert_close(together_, torch.cat(singly), atol=1e-4, rtol=1e-4)


class TestGradients:
    @pytest.mark.parametrize("name", ["var", "vhr", "act"])
    def test_a_patched_model_can_be_differentiated(self, name: str) -> None:
        architecture = "llama" if name == "act" else "llava"
        model, inputs = shared(architecture), alone(0, architecture)
        with hw.patch(model, FIXES[name](0)):
            with torch.no_grad():
                expected = model(**inputs).logits
            logits = model(**inputs).logits
            logits.sum().backward()
        torch.testing.assert_close(logits.detach(), expected, atol=1e-5, rtol=1e-5)
        gradients = [p.grad for n, p in model.named_parameters() if "q_proj" in n and "vision" not in n]
        assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


class TestCachedPrompts:
    @pytest.mark.parametrize(("architecture", "fix"), [("llama", ACT), ("llava", VAR), ("llava", VHR)])
    def test_a_prompt_that_was_cached_out_of_sight_is_refused(self, architecture: str, fix: Any) -> None:
        model, inputs = shared(architecture), alone(0, architecture)
        del inputs["position_ids"]
        with hw.patch(model, fix), torch.no_grad():
            cache = copy.deepcopy(cache_of(model(**inputs, use_cache=True)))
            with pytest.raises((FixError, InputError), match="could not see it"):
                model(input_ids=random_ids(1, 3), **with_cache(model, cache))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("VHR:outliers=no", "'outliers' of VHR cannot be .no.. .Input should be a valid boolean"),
        (
            "VAR:require_visual_sink=0",
            "'require_visual_sink' of VAR cannot be 0. .Input should be a valid boolean",
        ),
        ("VHR:seed=true", "'seed' of VHR cannot be true. .Input should be a valid integer"),
        ("VHR:seed=4611686018427387904", "'seed' of VHR cannot be 4611686018427387904. .*out of range"),
        ("VHR:seed=2147483649", "seed must be a whole number"),
    ],
)
def test_flags_and_seeds_are_checked(text: str, match: str) -> None:
    with pytest.raises(FixError, match=match):
        parse_fix(text)


def test_flags_may_be_written_as_in_python() -> None:
    assert parse_fix("VHR:outliers=False").outliers is False
