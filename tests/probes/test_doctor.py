"""The doctor agrees with models that are well, and names what is not."""

from __future__ import annotations

import pytest
from transformers import cache_utils

import headwise as hw
from headwise.probes.kernels import dense
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import padded_tokens, plain_tokens
from tests.tiny.telling import crossed, telling


@pytest.mark.parametrize(
    "name",
    telling(
        ["gpt2", "gemma2", "gpt_oss", "bart", "t5", "whisper", "llava", "qwen2_5_vl", "bloom"],
        ("gpt2", "gemma2", "t5", "llava", "bloom"),
    ),
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


@pytest.mark.parametrize(
    ("name", "side"),
    crossed(["llama", "gemma3_text", "qwen3", "bert"], ["left", "right"], ["llama", "gemma3_text", "bert"]),
)
def test_padding_is_no_reason_to_condemn_a_model(name: str, side: str) -> None:
    report = hw.doctor(ARCHITECTURES[name].build(), padded_tokens(side))
    assert report.ok, report.problems


@pytest.mark.parametrize("name", ["gemma3_text", "olmo2"])
def test_edits_reach_the_logits_through_a_norm_behind_attention(name: str) -> None:
    assert hw.doctor(ARCHITECTURES[name].build(), plain_tokens()).edit_effect > 1e-3


def test_what_was_tried_out_is_listed(llama) -> None:
    report = hw.doctor(llama)
    assert report.trials is not None
    assert report.trials["trial"].tolist() == ["forward", "padded batch", "decode step", "static cache"]
    assert report.trials["passed"].all()
    assert len(report.to_dict()["trials"]) == 4


def test_a_failed_trial_is_a_problem(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    right = cache_utils.DynamicLayer.update

    def update(self, key_states, value_states, *args, **kwargs):
        right(self, key_states, value_states, *args, **kwargs)
        return key_states, value_states

    monkeypatch.setattr(cache_utils.DynamicLayer, "update", update)
    report = hw.doctor(llama)
    assert not report.ok
    assert any(problem.startswith("decode step: a step sees 1 keys") for problem in report.problems)


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
