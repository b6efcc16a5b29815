"""`hw.patch`: where fixes act, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise import fixes
from headwise.testing.inputs import forward
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import plain_tokens
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def test_fixes_reach_the_tower_and_kind_they_name(bart: PreTrainedModel) -> None:
    inputs = ARCHITECTURES["bart"].inputs["padded"]()
    with hw.patch(bart, fixes.MaskKeys(keys=(1,), kind="cross")), hw.capture(bart, maps=True) as trace:
        forward(bart, inputs)
    for site in trace.sites:
        weights = trace.maps[site][..., 1]
        assert bool(weights[~weights.isnan()].eq(0).all()) == (site.kind == "cross")
    zero = fixes.ZeroHeads(heads=((0, 1),), tower="encoder")
    with hw.patch(bart, zero), hw.capture(bart, stats=False, heads=True) as trace:
        forward(bart, inputs)
    for site in trace.sites:
        silent = bool(trace.heads[site][:, :, 1].eq(0).all())
        assert silent == (site.tower == "encoder" and site.layer == 0)


@pytest.mark.parametrize(
    "fix",
    [
        fixes.ScaleHeads(heads=((0, 9),), factor=0.0),
        fixes.ScaleHeads(heads=((7, 0),), factor=0.0),
        fixes.ZeroHeads(heads=((0, 0),), tower="vision"),
        fixes.Replace(quantity="z", layer=9, value=torch.zeros(1, 1, 4, 8)),
        object(),
        FirstKey,
        [],
    ],
    ids=lambda fix: type(fix).__name__,
)
def test_fixes_that_do_not_fit_are_refused_before_anything_changes(llama: PreTrainedModel, fix: Any) -> None:
    before = snapshot(llama)
    with pytest.raises(hw.FixError):
        hw.patch(llama, fix)
    assert snapshot(llama) == before


ZERO, MASK = fixes.ZeroHeads(heads=((0, 1),)), fixes.MaskKeys(keys=(0,))


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("ZeroHeads:heads=[[0,1]]", (ZERO,)),
        ("zero_heads:heads=[[0,1]]+MaskKeys:keys=[0]", (ZERO, MASK)),
        (["mask-keys:keys=[0]", ZERO], (MASK, ZERO)),
        ("{spec}", (ZERO,)),
        (["{spec}", "MASK_KEYS:keys=[0]"], (ZERO, MASK)),
        (Path("{spec}"), (ZERO,)),
    ],
    ids=str,
)
def test_a_fix_is_written_as_on_a_command_line(
    llama: PreTrainedModel, tmp_path: Path, text: Any, installed: tuple[Any, ...]
) -> None:
    spec = tmp_path / "spec.json"
    hw.save_spec(spec, ZERO, llama)
    given = [
        type(one)(str(one).replace("{spec}", str(spec))) if isinstance(one, str | Path) else one
        for one in (text if isinstance(text, list) else [text])
    ]
    with hw.patch(llama, given if isinstance(text, list) else given[0]) as handle:
        assert handle.fixes == installed


@pytest.mark.parametrize(
    "text", ["DimImage", "ZeroHeads", "ZeroHeads:heads=1", "ZeroHeads:head=[[0,1]]", ["VAR", ""]]
)
def test_a_text_that_is_no_fix_is_refused_before_anything_changes(llama: PreTrainedModel, text: Any) -> None:
    before = snapshot(llama)
    for call in (hw.patch, hw.bake):
        with pytest.raises(hw.HeadwiseError):
            call(llama, text)
    assert snapshot(llama) == before


def test_what_the_softmax_does_not_show_is_said() -> None:
    model, inputs = ARCHITECTURES["bloom"].build(), plain_tokens()
    with (
        pytest.raises(hw.HeadwiseError),
        hw.patch(model, fixes.Replace(quantity="z", layer=0, value=torch.zeros(1, 12, 4, 8))),
    ):
        forward(model, inputs)
    with hw.capture(model, heads=True) as trace:
        forward(model, inputs)
    assert any("softmax" in warning for warning in trace.warnings)
