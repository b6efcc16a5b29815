"""`hw.patch(..., examples=[...])`: those examples as under the whole patch, the others bit for bit as without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import equal_length_pair, first, forward, random_ids, together
from tests.kit.fixes import FIXES
from tests.tiny.shared import shared
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OPTIONS: dict[str, Any] = {
    "max_new_tokens": 5,
    "min_new_tokens": 5,
    "pad_token_id": 0,
    "return_dict_in_generate": True,
    "output_logits": True,
}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "replies": {"num_return_sequences": 2, "do_sample": True},
}
PAIRS = [
    (fix, "llava" if fix in ("var", "vhr") else model)
    for fix in sorted(FIXES)
    for model in ("llama", "gemma2")
]
GRID = [
    pytest.param(
        fix, model, marks=[] if (fix, model) in (("act", "llama"), ("vhr", "llava")) else pytest.mark.slow
    )
    for fix, model in dict.fromkeys(PAIRS)
    if fix != "replace"
]


def logits(model: PreTrainedModel, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    """(token, row, word) of a call of generate."""
    generate: Any = model.generate
    given = {name: value for name, value in inputs.items() if name != "position_ids"}
    torch.manual_seed(5)
    return torch.stack(generate(**given, **{**OPTIONS, "do_sample": False, **options}).logits)


@pytest.mark.parametrize(("fix", "architecture"), GRID)
class TestRows:
    @pytest.mark.parametrize("mine", [0, 1])
    def test_forward(self, fix: str, architecture: str, mine: int) -> None:
        model, inputs = shared(architecture), together("left", architecture)
        before, made = snapshot(model), FIXES[fix](0)
        plain = first(forward(model, inputs))
        with hw.patch(model, made):
            patched = first(forward(model, inputs))
        with hw.patch(model, made, examples=[mine]):
            some = first(forward(model, inputs))
        assert torch.equal(some[1 - mine], plain[1 - mine])
        assert torch.equal(some[mine], patched[mine])
        assert not torch.equal(some[mine], plain[mine])
        assert (
            snapshot(model) == before or architecture == "llava"
        )  # whose library hooks came with the first forward

    @pytest.mark.parametrize("way", list(WAYS))
    def test_generate(self, fix: str, architecture: str, way: str) -> None:
        model, inputs = shared(architecture), equal_length_pair(architecture)
        made, options = FIXES[fix](0), WAYS[way]
        half = slice(0, 2) if way == "replies" else slice(0, 1)
        rest = slice(half.stop, None)
        plain = logits(model, inputs, **options)
        with hw.patch(model, made, examples=[0]):
            some = logits(model, inputs, **options)
        assert torch.equal(some[0][rest], plain[0][rest])
        assert not torch.equal(some[0][half], plain[0][half])
        if way != "replies":  # sampled tokens depend on what was drawn for the other row
            with hw.patch(model, made):
                patched = logits(model, inputs, **options)
            assert torch.equal(some[:, rest], plain[:, rest])
            assert torch.equal(some[:, half], patched[:, half])


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_beams_follow_their_example(name: str) -> None:
    model: Any = shared(name)
    inputs = {"input_ids": random_ids(2, 9), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    options = {
        "num_beams": 3,
        "num_return_sequences": 3,
        "do_sample": False,
        "output_scores": True,
        **OPTIONS,
    }
    fix = hw.fixes.ScaleHeads(heads=((0, 1), (1, 3)), factor=0.0)
    plain = model.generate(**inputs, **options)
    with hw.patch(model, fix):
        patched = model.generate(**inputs, **options)
    with hw.patch(model, fix, examples=[1]):
        some = model.generate(**inputs, **options)
    assert torch.equal(some.sequences[:3], plain.sequences[:3])
    assert torch.equal(some.sequences[3:], patched.sequences[3:])
    assert torch.equal(some.sequences_scores[:3], plain.sequences_scores[:3])
    assert not torch.equal(patched.sequences_scores[3:], plain.sequences_scores[3:])


def test_the_encoder_of_a_translation_model() -> None:
    model: Any = shared("bart")
    inputs = {"input_ids": random_ids(2, 9)}
    options = {"num_beams": 2, "do_sample": False, "output_scores": True, **OPTIONS}
    fix = hw.fixes.ZeroHeads(heads=((0, 1), (1, 0)), tower="encoder")
    plain = model.generate(**inputs, **options)
    with hw.patch(model, fix):
        patched = model.generate(**inputs, **options)
    with hw.patch(model, fix, examples=[0]):
        some = model.generate(**inputs, **options)
    assert torch.equal(
        some.sequences_scores, torch.stack([patched.sequences_scores[0], plain.sequences_scores[1]])
    )


def test_a_model_seen_through_its_softmax() -> None:
    model = shared("gptj", "eager")
    inputs = {"input_ids": random_ids(2, 9)}
    for fix in (hw.fixes.MaskKeys(keys=(1,)), hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.0)):
        plain = first(forward(model, inputs))
        with hw.patch(model, fix):
            patched = first(forward(model, inputs))
        with hw.patch(model, fix, examples=[1]):
            some = first(forward(model, inputs))
        assert torch.equal(some, torch.stack([plain[0], patched[1]]))


def test_two_patches_of_two_examples_and_what_a_capture_sees(llama: PreTrainedModel) -> None:
    inputs = {"input_ids": random_ids(3, 9)}
    with (
        hw.patch(llama, hw.fixes.MaskKeys(keys=(1,)), examples=[0]),
        hw.patch(llama, hw.fixes.MaskKeys(keys=(2,)), examples=[2]),
        hw.capture(llama, maps=True) as trace,
    ):
        forward(llama, inputs)
    for pattern in trace.maps.values():
        empty = [(pattern[example, :, :, key] == 0).all().item() for example in range(3) for key in (1, 2)]
        assert empty == [True, False, False, False, False, True]


@pytest.mark.parametrize("examples", [[], [-1], "0", [0.5], 3, [True]])
def test_examples_that_are_none_are_refused(llama: PreTrainedModel, examples: Any) -> None:
    with pytest.raises(hw.InputError, match="numbers from 0"):
        hw.patch(llama, FIXES["act"](0), examples=examples)


def test_examples_that_are_not_there_are_refused(llama: PreTrainedModel) -> None:
    before = snapshot(llama)
    with (
        pytest.raises(hw.FixError, match="example 2, which this batch does not have"),
        hw.patch(llama, FIXES["scale_heads"](0), examples=[0, 2]),
    ):
        forward(llama, {"input_ids": random_ids(2, 5)})
    assert snapshot(llama) == before
    with pytest.raises(hw.FixError, match="not one of examples"):
        hw.patch(shared("llava"), hw.fixes.ZeroHeads(heads=((0, 0),), tower="vision"), examples=[0])
