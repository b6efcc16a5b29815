"""A test that changes a model which others look at fails, and the others get a new one."""

from __future__ import annotations

import pytest
import torch

from tests.tiny.shared import assert_shared_models_are_as_before, shared

CHANGES = {
    "a hook": lambda model: model.register_forward_hook(print),
    "a weight": lambda model: model.lm_head.weight.add_(1),
    "a weight put in its place": lambda model: setattr(
        model.lm_head, "bias", torch.nn.Parameter(torch.zeros(128))
    ),
    "a setting": lambda model: setattr(model.config, "eos_token_id", 9),
    "how it generates": lambda model: setattr(model.generation_config, "num_beams", 2),
    "its mode": lambda model: model.train(),
    "its type": lambda model: model.to(torch.bfloat16).to(torch.float32),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_forgotten(change):
    model = shared("llama")
    with torch.no_grad():
        CHANGES[change](model)
    with pytest.raises(AssertionError, match="changed the shared llama"):
        assert_shared_models_are_as_before()
    assert shared("llama") is not model
    assert_shared_models_are_as_before()
