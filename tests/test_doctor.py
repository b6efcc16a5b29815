"""The doctor agrees with models that are well, and names what is not."""

from __future__ import annotations

import pytest

import headwise as hw
from headwise.probes import dense
from tests.tiny import ARCHITECTURES


@pytest.mark.parametrize(
    "name", ["gpt2", "gemma2", "gpt_oss", "bart", "t5", "whisper", "llava", "qwen2_5_vl", "bloom"]
)
def test_models_that_are_well(name: str) -> None:
    row = ARCHITECTURES[name]
    model = row.build()
    before = model.config._attn_implementation
    report = hw.doctor(model, row.inputs["plain"]())
    assert report.ok, report.problems
    assert report.edit_effect > 0
    assert len(report.to_dict()["sites"]) == len(report.frame)
    assert model.config._attn_implementation == before


def test_a_wrong_pattern_is_named_with_its_layer(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    right = dense.pattern

    def wrong(call):
        p, lse = right(call)
        return p.flip(1), lse

    monkeypatch.setattr(dense, "pattern", wrong)
    report = hw.doctor(llama)
    assert not report.ok
    assert any(
        "text self layer 0" in problem and "differ from eager" in problem for problem in report.problems
    )


def test_a_patched_model_is_not_examined(llama) -> None:
    fix = hw.fixes.ZeroHeads(heads=((0, 0),))
    with hw.patch(llama, fix), pytest.raises(hw.InputError, match="captured or patched"):
        hw.doctor(llama)
