"""A model that drafts for itself: patched, it writes what it writes without drafts, and stays what it was."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import alone
from tests.kit.fixes import FIXES
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared
from tests.tiny.telling import telling

GREEDY = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12, "pad_token_id": 0}
DECODERS = ("llama", "gpt2", "gemma2", "mistral", "bloom", "gpt_neox", "qwen3", "phi3", "olmo2", "granite")
EARLY = tuple(name for name in DECODERS if name not in ("gpt2", "bloom", "gpt_neox"))
"""Those whose layers go by the number in their configuration; transformers lets no other model exit early."""
SHARP = replace(FIXES["act"](0), alpha=0.5, beta=0.1, min_rows=1)
ACTS = (SHARP, replace(SHARP, mode="full"), replace(SHARP, decode="off"))


def written(model: Any, inputs: dict[str, Any], **options: Any) -> list[int]:
    inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.generate(**inputs, **GREEDY, **options)[0].tolist()


@pytest.mark.parametrize("fix", [ACTS[0], *(pytest.param(fix, marks=pytest.mark.slow) for fix in ACTS[1:])])
@pytest.mark.parametrize("name", telling(EARLY, ("llama",)))
def test_an_early_exit_changes_nothing_that_is_written(name: str, fix: Any) -> None:
    model, inputs = shared(name), alone(0)
    with hw.patch(model, fix):
        alone_, depth = written(model, inputs), model.config.num_hidden_layers
        assert written(model, inputs, assistant_early_exit=1) == alone_
    assert model.config.num_hidden_layers == depth


@pytest.mark.slow
@pytest.mark.parametrize("fix", ACTS)
@pytest.mark.parametrize("name", DECODERS)
def test_a_model_that_assists_itself_writes_the_same(name: str, fix: Any) -> None:
    model, inputs = shared(name), alone(0)
    with hw.patch(model, fix):
        assert written(model, inputs, assistant_model=model) == written(model, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("fix", ["vhr", "var"])
def test_drafts_of_a_model_that_sees(fix: str) -> None:
    model, inputs = shared("llava"), alone(0, "llava")
    with hw.patch(model, FIXES[fix](0)):
        assert written(model, inputs, assistant_model=model) == written(model, inputs)


@pytest.mark.parametrize("tokens", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 7))])
def test_a_capture_beside_act_records_what_was_written(tokens: int) -> None:
    model, inputs = ARCHITECTURES["llama"].build(), alone(0)
    model.generation_config.num_assistant_tokens = tokens
    traces = []
    for options in ({}, {"assistant_early_exit": 1}):
        with hw.patch(model, SHARP), hw.capture(model, maps=True) as trace:
            written(model, inputs, **options)
        traces.append(trace)
    for site in traces[0].sites:
        torch.testing.assert_close(traces[1].maps[site], traces[0].maps[site], atol=1e-5, rtol=1e-5)


class _Failing:
    """A fix that fails in the course of a draft."""

    def __init__(self) -> None:
        self.calls = 0

    def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("no more")
        return pattern


def test_what_fails_in_a_draft_leaves_the_model_as_it_was() -> None:
    model, inputs = shared("llama"), alone(0)
    plain, depth = written(model, inputs), model.config.num_hidden_layers
    with hw.patch(model, _Failing()), pytest.raises(RuntimeError, match="no more"):
        written(model, inputs, assistant_early_exit=1)
    assert model.config.num_hidden_layers == depth
    assert written(model, inputs) == plain
