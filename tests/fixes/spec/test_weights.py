"""One checkpoint is one model in whatever type it is held; another checkpoint is another."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.fixes.spec.weights import difference, weights_of
from headwise.testing.inputs import random_ids
from tests.tiny import ARCHITECTURES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ZERO = hw.fixes.ZeroHeads(heads=((0, 1),))
FEW = ("llama", "whisper", "llava")
NAMES = [pytest.param(n, marks=[] if n in FEW else pytest.mark.slow) for n in sorted(ARCHITECTURES)]


def held(model: Any, where: Any) -> Any:
    """A copy of a model in another type, or elsewhere."""
    return deepcopy(model).to(where)


def apart(written: tuple[str, PreTrainedModel], own: tuple[str, PreTrainedModel]) -> str:
    """In what two models differ, each held in a type."""
    models = [held(model, TYPES[name]) for name, model in (written, own)]
    return difference(weights_of(models[0]), written[0], weights_of(models[1]), own[0])


def trained(model: PreTrainedModel, rate: float) -> PreTrainedModel:
    """The model after one step of plain gradient descent."""
    new: Any = deepcopy(model).train()
    ids = random_ids(2, 9)
    new(input_ids=ids, labels=ids).loss.backward()
    with torch.no_grad():
        for parameter in new.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
    new.zero_grad()
    return new.eval()


def merged(model: PreTrainedModel, size: float) -> PreTrainedModel:
    """The model with a low-rank adapter merged into the values of its last layer."""
    new: Any = deepcopy(model)
    weight = new.model.layers[-1].self_attn.v_proj.weight
    generator = torch.Generator().manual_seed(0)
    up, down = (torch.randn(n, 2, generator=generator) for n in weight.shape)
    with torch.no_grad():
        weight += size * float(weight.std()) * up @ down.T
    return new


@pytest.mark.parametrize("name", NAMES)
def test_types_of_one_checkpoint_are_one_model(name: str) -> None:
    model = ARCHITECTURES[name].build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # some are made without values, and hold whatever memory held
            parameter.normal_(std=0.2, generator=generator)
    for written in TYPES:
        for own in TYPES:
            assert apart((written, model), (own, model)) == "", (written, own)
    twice = held(model, torch.float16)  # rounded on the way
    assert apart(("float32", model), ("bfloat16", twice)) == ""


@pytest.mark.parametrize("own", list(TYPES))
@pytest.mark.parametrize("written", list(TYPES))
def test_a_fine_tune_is_another_model(llama: PreTrainedModel, written: str, own: str) -> None:
    others = [merged(llama, 0.1), trained(llama, 0.5)]
    if written == own == "float32":
        others += [merged(llama, 1e-5), trained(llama, 1e-4)]
    for other in others:
        assert apart((written, llama), (own, other))
        assert apart((written, other), (own, llama))


def test_a_spec_fitted_in_float32_patches_the_model_in_bfloat16(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    hw.save_spec(tmp_path / "fix.json", ZERO, llama)
    half, tuned = held(llama, torch.bfloat16), held(merged(llama, 0.1), torch.bfloat16)
    with hw.patch(half, tmp_path / "fix.json") as handle:
        assert handle.fixes == (ZERO,)
    with pytest.raises(hw.FixError, match=r"they differ in \d+ of \d+ sampled values, by more than rounding"):
        hw.patch(tuned, tmp_path / "fix.json")
    with hw.patch(tuned, tmp_path / "fix.json", force=True) as handle:
        assert handle.active
    assert (tmp_path / "fix.json").stat().st_size < 8000


def test_large_and_tiny_values_of_float16(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.view(-1)[:2] = torch.tensor([3e-8, 1e6])
    assert apart(("float32", llama), ("bfloat16", llama)) == ""
    assert "sampled values" in apart(("float32", llama), ("float16", llama))  # 1e6 is infinite there


def test_weights_out_of_reach_are_not_compared(llama: PreTrainedModel) -> None:
    offloaded: Any = deepcopy(llama)
    offloaded.model.layers[0].to("meta")
    own, other = weights_of(llama), weights_of(merged(llama, 0.1))
    assert difference(own, "float32", weights_of(offloaded), "float32") == ""
    assert difference(other, "float32", weights_of(offloaded), "float32") != ""
    nothing = weights_of(held(llama, "meta"))
    assert "out of reach" in difference(own, "float32", nothing, "float32")


def test_quantised_weights_are_others(llama: PreTrainedModel) -> None:
    quantised: Any = deepcopy(llama)
    layer = quantised.model.layers[0].mlp.up_proj
    packed = torch.zeros(layer.weight.numel() // 2, 1, dtype=torch.uint8)
    layer.weight = torch.nn.Parameter(packed, requires_grad=False)
    assert difference(weights_of(llama), "float32", weights_of(quantised), "float32") == (
        "names or shapes of tensors"
    )
