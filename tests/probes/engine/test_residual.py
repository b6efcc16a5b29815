"""Residual stream: what leaves the last layer is kept beside what enters each, whatever way round a model holds it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import headwise as hw
from headwise.probes.trace.levels import residual_levels
from headwise.testing.inputs import forward
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

SEEN = [name for name, row in ARCHITECTURES.items() if row.expected in ("pass", "partial", "fallback")]
QUICK = ("llama", "xlnet", "fsmt", "kosmos2_5", "swin", "albert", "mllama")
EVERYTHING: dict[str, Any] = {"residual": True, "qkv": True, "heads": True, "check": False}


def captured(name: str, *, runs: int = 1, **options: Any) -> hw.Trace:
    model = shared(name)
    with hw.capture(model, **options) as trace, torch.no_grad():
        for _ in range(runs):
            forward(model, ARCHITECTURES[name].inputs["plain"]())
    return trace


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SEEN]
)
def test_what_is_kept_of_two_runs_is_merged_and_saved(name: str, tmp_path: Any) -> None:
    once, twice = (captured(name, runs=runs, **EVERYTHING) for runs in (1, 2))
    again = hw.load_trace(twice.save(tmp_path / "two.safetensors"))
    for site, record in once.records.items():
        for field in {"q", "z", "residual", "final_residual"} & record.keys():
            both = again.records[site][field]
            assert len(both) == 2 * len(record[field])
            torch.testing.assert_close(both, record[field].repeat(2, *[1] * (both.dim() - 1)), equal_nan=True)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("llama", "model.norm"),
        ("gpt2", "transformer.ln_f"),
        ("bert", ""),
        ("albert", ""),
        ("xlnet", ""),
    ],
)
def test_the_last_level_is_what_the_model_gives_before_its_norm(name: str, norm: str) -> None:
    model, inputs = ARCHITECTURES[name].build(), ARCHITECTURES[name].inputs["plain"]()
    with hw.capture(model, stats=False, residual=True, check=False) as trace:
        forward(model, inputs)
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    levels = list(residual_levels(trace))
    assert [level.number for level in levels] == list(range(len(states)))
    for level, state in zip(levels[:-1], states[:-1], strict=True):
        torch.testing.assert_close(level.residual, state)
    last = levels[-1].residual
    torch.testing.assert_close(model.get_submodule(norm)(last) if norm else last, states[-1])


def test_attention_in_windows_leaves_the_residual_out_and_says_so() -> None:
    both, alone = captured("swin", **EVERYTHING), captured("swin", stats=False, residual=True, check=False)
    assert "residual" not in both.records[both.sites[0]]
    (said,) = [text for text in both.warnings if "left out" in text]
    assert "first vision self 0" in said
    assert "stats=False, residual=True" in said
    assert not any("left out" in text for text in alone.warnings)
    assert alone.residual[alone.sites[0]].shape[:2] == (2, 64)


def test_a_layer_that_is_chosen_has_what_leaves_it_if_it_is_the_last() -> None:
    for layers, kept in (("decoder 0", []), ("decoder 1", ["decoder self 1"])):
        trace = captured("whisper", stats=False, residual=layers, check=False)
        assert [str(site) for site, record in trace.records.items() if "final_residual" in record] == kept


def test_decoded_rows_are_those_of_one_forward() -> None:
    model: Any = shared("llama")
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    with hw.capture(model, residual=True, check=False) as trace:
        written = model.generate(
            **inputs, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    with hw.capture(model, residual=True, check=False) as whole, torch.no_grad():
        model(input_ids=written[:, :-1])
    for one, other in zip(residual_levels(trace), residual_levels(whole), strict=True):
        torch.testing.assert_close(one.residual, other.residual, atol=1e-5, rtol=1e-4)


def test_padding_is_no_row_of_a_level() -> None:
    model = shared("llama")
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7], [0, 6, 7]]),
        "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]]),
    }
    with hw.capture(model, residual=True, check=False) as trace, torch.no_grad():
        model(**inputs)
    for level in residual_levels(trace):
        assert [level.stream(example)[1] for example in (0, 1)] == [[0, 1, 2], [1, 2]]
