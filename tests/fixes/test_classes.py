"""Fixes on checkpoints of the real classes, saved to a folder and loaded from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import first, forward
from tests.tiny import ARCHITECTURES
from tests.tiny.telling import telling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SEEING = ("llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "idefics3", "instructblip", "paligemma")
READING = ("llama", "mistral", "qwen3", "gpt2", "opt")
FEW = ("llava", "qwen2_vl", "llama")
EVERY = tuple((layer, head) for layer in (0, 1) for head in range(4))
VISION_FIXES = {
    "VAR": hw.fixes.VAR(sink_dims=(3, 5), tau=1.2, layers=(0, 1), rho=0.1, least_mass=0.05),
    "VHR": hw.fixes.VHR(layers=(0, 1)),
    "VHR by masking": hw.fixes.VHR(layers=(0, 1), without="mask"),
    "VAR and VHR": (
        hw.fixes.VAR(sink_dims=(3, 5), tau=1.2, layers=(1,), rho=0.1, least_mass=0.05),
        hw.fixes.VHR(layers=(0,)),
    ),
}
TEXT_FIXES = {
    "ACT": hw.fixes.ACT(heads=EVERY, alpha=1.5, min_rows=2),
    "SetRows": hw.fixes.SetRows(heads=((1, 0), (1, 2)), row=-1, weights={9: 0.5, 10: 0.5}),
    "ScaleHeads": hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.3),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in SEEING + READING:
        ARCHITECTURES[name].build().save_pretrained(folder / name)
    return folder


def model_of(folders: Path, name: str) -> PreTrainedModel:
    return hw.load(folders / name, dtype=torch.float32).model


def decoded(
    model: PreTrainedModel, inputs: dict[str, Any], **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and logits of greedy decoding."""
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=4,
        min_new_tokens=4,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return output.sequences, torch.stack(output.logits, 1)


CASES = [(name, fix) for name in SEEING for fix in (*VISION_FIXES, "ACT")]
CASES += [(name, fix) for name in READING for fix in TEXT_FIXES]


@pytest.mark.parametrize(("name", "fix"), telling(CASES, FEW))
def test_a_fix_acts_decodes_and_leaves_the_model_as_it_was(folders: Path, name: str, fix: str) -> None:
    model, chosen = model_of(folders, name), (VISION_FIXES | TEXT_FIXES)[fix]
    assert type(model).__name__ == ARCHITECTURES[name].model
    inputs = ARCHITECTURES[name].inputs["plain"]()
    plain = first(forward(model, inputs))
    tokens, logits = decoded(model, inputs)
    with hw.patch(model, chosen):
        fixed = first(forward(model, inputs))
        new_tokens, cached = decoded(model, inputs)
        _, uncached = decoded(model, inputs, use_cache=False)
        # `generate` asks for the same first step as the forward does.
        torch.testing.assert_close(cached[:, 0], fixed[:, -1].float(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(cached, uncached, atol=1e-4, rtol=1e-4)
        assert new_tokens.shape == tokens.shape
    assert not torch.allclose(fixed, plain, atol=1e-4)
    assert torch.equal(first(forward(model, inputs)), plain)
    again, same = decoded(model, inputs)
    assert torch.equal(again, tokens)
    assert torch.equal(same, logits)


@pytest.mark.parametrize("name", telling(SEEING, FEW))
@pytest.mark.parametrize("fix", list(VISION_FIXES))
def test_padding_on_the_left_changes_nothing(folders: Path, name: str, fix: str) -> None:
    model = model_of(folders, name)
    inputs = ARCHITECTURES[name].inputs
    with hw.patch(model, VISION_FIXES[fix]):
        outputs = [
            first(forward(model, _placed(inputs[variant](), name)))[:, -1] for variant in ("plain", "padded")
        ]
    torch.testing.assert_close(*outputs, atol=2e-4, rtol=2e-4)


def _placed(inputs: dict[str, Any], name: str) -> dict[str, Any]:
    """Positions counted from the first real token, as `generate` counts them; Qwen does so itself."""
    if name.startswith("qwen2") or name in ("instructblip", "idefics3"):
        return inputs
    places = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    return {**inputs, "position_ids": places + (1 if name == "paligemma" else 0)}


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("fix", [hw.fixes.VAR(sink_dims=(1,), layers=(1,)), hw.fixes.VHR()])
def test_a_vision_fix_on_a_language_model_is_refused(folders: Path, name: str, fix: Any) -> None:
    with pytest.raises(hw.FixError, match="takes none"):
        hw.patch(model_of(folders, name), fix)
