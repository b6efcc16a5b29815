"""Gradients of attention patterns, against autograd through the model's own eager attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import first
from tests.tiny import ARCHITECTURES
from tests.tiny.reference import recorded_eager


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_oss", "bert", "t5", "bart", "vit", "llava"])
def test_gradients_of_patterns_equal_those_through_eager(name: str) -> None:
    row = ARCHITECTURES[name]
    inputs = row.inputs["plain"]()
    eager = row.build("eager")
    with recorded_eager(eager, gradients=True) as patterns:
        output = eager(**inputs, return_dict=True)
    loss(output).backward()
    model = row.build()
    with hw.capture(model, stats=False, maps=True, gradients=True) as trace:
        output = model(**inputs, return_dict=True)
    loss(output).backward()
    with hw.capture(model, stats=False, gradients=True) as long:
        output = model(**inputs, return_dict=True)
    loss(output).backward()
    assert len(trace.sites) == sum(row.sites.values())
    for site in trace.sites:
        pattern = patterns[site.module, site.call]
        expected = pattern.grad
        scale = expected.abs().max().item()
        torch.testing.assert_close(trace.map_gradients[site], expected, rtol=0, atol=1e-6 * max(1, scale))
        product = (pattern * expected).detach()
        for each in (trace, long):
            torch.testing.assert_close(
                each.attribution(site, per="key"), product.sum(-2), rtol=0, atol=1e-5 * max(1, scale)
            )
            torch.testing.assert_close(
                each.attribution(site, per="query"), product.sum(-1), rtol=0, atol=1e-5 * max(1, scale)
            )


def loss(output: Any) -> torch.Tensor:
    return first(output)[:, -1].square().mean()
