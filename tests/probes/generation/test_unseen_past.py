"""A past that travels unseen is an error where it shows, and no model that is followed raises it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaForCausalLM

import headwise as hw
from headwise.testing.inputs import random_ids
from tests.kit.edits import Copy
from tests.tiny import ARCHITECTURES

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 2},
    "static cache": {"cache_implementation": "static", "disable_compile": True},
}
SEEN = [name for name, row in ARCHITECTURES.items() if row.expected in ("pass", "partial", "fallback")]
QUICK = ("mistral", "mllama", "jamba")


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose forward takes its cache in a wrapper that shows nothing of it."""
    forward = LlamaForCausalLM.forward

    @functools.wraps(forward)
    def unsealed(self, *args, memory=None, **kwargs):
        cache = {} if memory is None else memory
        output = forward(self, *args, **{**kwargs, **cache})
        return output.logits

    monkeypatch.setattr(LlamaForCausalLM, "forward", unsealed)
    return ARCHITECTURES["llama"].build()


def decode(model: Any, ids: torch.Tensor) -> None:
    """A prompt and one cached step."""
    memory = {"past_key_values": DynamicCache(config=model.config)}
    with torch.no_grad():
        model(ids[:, :-1], memory=memory)
        model(ids[:, -1:], memory=memory)


def test_a_capture_refuses_a_step_whose_past_it_did_not_see(sealed: Any) -> None:
    with (
        pytest.raises(hw.CaptureError, match="6 keys in the self-attention of the text tower, 0 cached"),
        hw.capture(sealed, check=False),
    ):
        decode(sealed, random_ids(2, 6))
    decode(sealed, random_ids(2, 6))
    assert not any("generate" in vars(module) for module in sealed.modules())


def test_a_patch_refuses_a_step_whose_past_it_did_not_see(sealed: Any) -> None:
    with hw.patch(sealed, Copy()), pytest.raises(hw.CaptureError, match="did not see come in"):
        decode(sealed, random_ids(2, 6))


def test_positions_that_contradict_the_cache_are_refused() -> None:
    model, ids = ARCHITECTURES["llama"].build(), random_ids(2, 6)
    cache = DynamicCache(config=model.config)
    with hw.capture(model, check=False) as trace, torch.no_grad():
        model(ids[:, :4], past_key_values=cache, cache_position=torch.arange(4))
        model(ids[:, 4:5], past_key_values=cache, cache_position=torch.tensor([4]))
        with pytest.raises(hw.CaptureError, match="begins at 3, and the cache holds 5 positions"):
            model(ids[:, 5:], past_key_values=cache, cache_position=torch.tensor([3]))
    assert trace.examples == 2


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SEEN]
)
def test_no_model_that_is_followed_is_refused(name: str) -> None:
    """One forward, and every way of generating that the model has."""
    row = ARCHITECTURES[name]
    model: Any = row.build()
    for variant in row.inputs.values():
        with torch.no_grad(), hw.capture(model, check=False):
            model(**variant())
    if not (hasattr(model, "generate") and model.can_generate()):
        return
    inputs = {
        field: value for field, value in row.inputs["plain"]().items() if not field.startswith("decoder")
    }
    options = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    for way in WAYS.values():
        try:
            with torch.no_grad():
                model.generate(**inputs, **options, **way)
        except Exception as error:
            print(f"{name} does not generate so: {error}")
            continue
        with torch.no_grad(), hw.capture(model, check=False) as trace:
            model.generate(**inputs, **options, **way)
        assert trace.sites
