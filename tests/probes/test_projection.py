"""W_O is found by what it is fed."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.probes.projection import output_projections, value_projections
from tests.tiny import ARCHITECTURES
from tests.tiny.telling import TELLING, telling

EXCEPTIONS = {
    "diffllama": {"text"},  # the difference of two calls, then a norm
    "bitnet": {"text"},  # a norm
    "qwen3_next": {"text"},  # a gate
}


@pytest.mark.parametrize(
    "name",
    telling((n for n, row in ARCHITECTURES.items() if row.expected == "pass"), TELLING | EXCEPTIONS.keys()),
)
def test_every_site_has_its_projection_but_for_the_known_exceptions(name: str) -> None:
    row = ARCHITECTURES[name]
    found, missing = output_projections(row.build().eval(), row.inputs["plain"]())
    assert {site.tower for site in missing} == EXCEPTIONS.get(name, set())
    assert found or name in EXCEPTIONS


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart", "whisper"])
def test_the_writes_of_all_heads_add_up_to_what_the_layer_gives(name: str) -> None:
    row = ARCHITECTURES[name]
    model, inputs = row.build().eval(), row.inputs["plain"]()
    found, _ = output_projections(model, inputs)
    given: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    for projection in found.values():
        modules[projection.name].register_forward_hook(
            lambda module, args, output, name=projection.name: given.__setitem__(name, output.detach())
        )
    with torch.no_grad(), hw.capture(model, heads=True) as trace:
        model(**inputs)
    for site, projection in found.items():
        total = projection.writes(trace.heads[site]).sum(2)
        bias = modules[projection.name].bias
        total = total if bias is None else total + bias.detach()
        torch.testing.assert_close(total, given[projection.name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    telling((n for n, row in ARCHITECTURES.items() if row.expected == "pass"), TELLING | {"llama4_text"}),
)
def test_every_site_has_its_values(name: str) -> None:
    row = ARCHITECTURES[name]
    found, missing = value_projections(row.build().eval(), row.inputs["plain"]())
    assert found
    assert not missing


def test_w_v_is_the_layers_own() -> None:
    model = ARCHITECTURES["gpt_neox"].build().eval()  # queries, keys and values of a head stand side by side
    found, _ = value_projections(model)
    for site, weight in found.items():
        fused = dict(model.named_modules())[f"{site.module}.query_key_value"].weight
        own = fused.detach().unflatten(0, (weight.shape[0], 3, -1))[:, 2]
        torch.testing.assert_close(weight, own.transpose(1, 2), rtol=0, atol=0)


def test_models_seen_through_their_softmax_have_none() -> None:
    row = ARCHITECTURES["bloom"]
    found, missing = output_projections(row.build().eval(), row.inputs["plain"]())
    assert found == {}
    assert len(missing) == 2


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(hw.InputError, match="does not run on these inputs"):
        output_projections(ARCHITECTURES["gpt2"].build(), {"pixel_values": torch.zeros(1)})
