"""What was captured on unlike models is not merged: other weights, or other fixes, or other parameters of a fix."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

import headwise as hw
from headwise.analyses import merge
from headwise.errors import InputError
from headwise.probes.fix_text import fix_text
from headwise.testing import tiny_model

IDS = torch.tensor([[1, 4, 2, 5]])
FIXES = {
    "none": None,
    "one head": hw.fixes.ZeroHeads(heads=((0, 0),)),
    "another head": hw.fixes.ZeroHeads(heads=((0, 1),)),
    "another fix": hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5),
    "another factor": hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.25),
}


def trace_of(model, fix=None):
    patched = nullcontext() if fix is None else hw.patch(model, fix)
    with patched, hw.capture(model, heads=True, maps=True) as trace, torch.no_grad():
        model(input_ids=IDS)
    return trace


@pytest.fixture(scope="module")
def model():
    return tiny_model("gpt2")


@pytest.fixture(scope="module")
def traces(model):
    return {name: trace_of(model, fix) for name, fix in FIXES.items()}


@pytest.mark.parametrize("name", FIXES)
@pytest.mark.parametrize("other", FIXES)
def test_fixes_are_the_same_by_name_and_by_parameters(traces, name, other):
    pair = [hw.analyses.entropy(traces[one]) for one in (name, other)]
    compared = [hw.analyses.trace_divergence(traces["none"], traces[one]) for one in (name, other)]
    if name == other:
        assert merge(pair).provenance["patched"] == traces[name].meta["patched"]
        assert len(merge(compared).frame) == 2 * len(compared[0].frame)
        return
    with pytest.raises(InputError, match=r"parameters.*fixes: "):
        merge(pair)
    with pytest.raises(InputError, match="fixes of what is compared: "):
        merge(compared)


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.add_(1e-3),
        lambda weight: weight.data.mul_(1.5),  # behind autograd's back
        lambda weight: weight.data.__setitem__((slice(None), slice(0, 2)), 0.0),
    ],
)
def test_weights_that_changed_in_between_are_another_model(change):
    model = tiny_model("gpt2")
    before = hw.analyses.entropy(trace_of(model))
    with torch.no_grad():
        change(model.get_parameter("transformer.h.0.attn.c_proj.weight"))
    after = hw.analyses.entropy(trace_of(model))
    with pytest.raises(InputError, match=r"fingerprint of the weights: '[0-9a-f]{16}' and '[0-9a-f]{16}'"):
        merge([before, after])


def test_the_text_of_a_fix_differs_where_a_tensor_does_and_not_where_an_object_lies():
    class Odd:
        def __init__(self, values, rule):
            self.values, self.rule = values, rule

    one, same, other = (Odd(torch.tensor([value]), max) for value in (1.0, 1.0, 2.0))
    assert fix_text(one) == fix_text(same) != fix_text(other)
    many = [hw.fixes.ZeroHeads(heads=tuple((layer, head) for layer in range(99))) for head in (0, 1)]
    assert fix_text(many[0]) != fix_text(many[1])
    assert len(fix_text(many[0])) < 600


TEXT, PAIR = (
    {"text": "Luke and Alice met"},
    {
        "clean": "Luke and Alice met, Luke spoke to",
        "corrupted": "Luke and Alice met, Alice spoke to",
        "correct": " Alice",
        "wrong": " Luke",
    },
)
RUN_THEMSELVES = {
    "circuit": (PAIR, {"method": "eap", "edges": 5, "check": False}),
    "effective_span": (TEXT, {}),
    "head_types": (TEXT, {"prompts": "names", "sequences": 1}),
    "saliency": (TEXT, {"generate": 2}),
}
"""Analyses that run the model, one of each way to say where a result comes from."""


@pytest.mark.parametrize("name", RUN_THEMSELVES)
def test_what_runs_the_model_tells_the_fixes_on_it_and_none_of_its_own(name):
    subject, fix = hw.load("zoo:lm"), FIXES["another fix"]
    data, parameters = RUN_THEMSELVES[name]
    with hw.patch(subject, fix):
        patched = getattr(hw.analyses, name)(subject, [data], **parameters)
    plain = getattr(hw.analyses, name)(subject, [data], **parameters)
    assert (plain.provenance["patched"], patched.provenance["patched"]) == ([], [fix_text(fix)])
    assert plain.provenance["weights"] == patched.provenance["weights"]
    with pytest.raises(InputError, match=r"fixes: |have no sum"):
        merge([plain, patched])
