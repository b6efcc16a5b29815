"""Laws that every capture and every patch keeps, whatever the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise import fixes
from headwise.testing.inputs import Inputs, first, forward, random_ids
from tests.kit.edits import Copy, FirstKey, Identity
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import padded_tokens, plain_tokens
from tests.tiny.reference import recorded_eager
from tests.tiny.shared import shared
from tests.tiny.telling import crossed, telling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOME = ("gpt2", "llama", "gemma2", "gpt_oss", "bert", "bart", "t5", "llava", "bloom")
DECODERS = ("gpt2", "llama", "mistral", "gemma2", "gpt_oss", "opt", "bloom", "gptj")
FEW = ("gpt2", "llama", "gpt_oss", "bart", "llava", "bloom")


def inputs_of(name: str) -> Inputs:
    return ARCHITECTURES[name].inputs["plain"]()


def decode(model: PreTrainedModel, inputs: Inputs, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy tokens, and the logits of every step."""
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=steps,
        min_new_tokens=steps,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences, torch.stack(output.logits)


NEUTRAL = {
    "scale by one": fixes.ScaleHeads(heads=((0, 1), (1, 2)), factor=1.0),
    "no heads to scale": fixes.ScaleHeads(heads=(), factor=0.0),
    "no heads to zero": fixes.ZeroHeads(heads=()),
    "no keys to mask": fixes.MaskKeys(keys=()),
    "no rows to set": fixes.SetRows(heads=(), row=-1, weights={0: 1.0}),
}


@pytest.mark.parametrize("name", telling(SOME, FEW))
@pytest.mark.parametrize("fix", NEUTRAL, ids=str)
def test_neutral_fixes_change_no_bit(name: str, fix: str) -> None:
    model, inputs = shared(name), inputs_of(name)
    expected = first(forward(model, inputs))
    with hw.patch(model, NEUTRAL[fix]):
        assert torch.equal(first(forward(model, inputs)), expected)


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize("fix", NEUTRAL, ids=str)
def test_neutral_fixes_change_no_bit_of_cached_decoding(name: str, fix: str) -> None:
    model, inputs = shared(name), inputs_of(name)
    tokens, logits = decode(model, inputs)
    with hw.patch(model, NEUTRAL[fix]):
        patched_tokens, patched = decode(model, inputs)
    assert torch.equal(patched_tokens, tokens)
    assert torch.equal(patched, logits)


@pytest.mark.parametrize("name", telling(SOME, FEW))
@pytest.mark.parametrize("edit", [Identity(), Copy()], ids=["same tensor", "equal tensor"])
def test_an_edit_that_changes_nothing_leaves_the_output(name: str, edit: object) -> None:
    model, inputs = shared(name), inputs_of(name)
    expected = first(forward(model, inputs))
    with hw.patch(model, edit):
        torch.testing.assert_close(first(forward(model, inputs)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize("edit", [Identity(), Copy()], ids=["same tensor", "equal tensor"])
def test_an_edit_that_changes_nothing_leaves_the_tokens(name: str, edit: object) -> None:
    model, inputs = shared(name), inputs_of(name)
    tokens, logits = decode(model, inputs)
    with hw.patch(model, edit):
        patched_tokens, patched = decode(model, inputs)
    assert torch.equal(patched_tokens, tokens)
    torch.testing.assert_close(patched, logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
@pytest.mark.parametrize("length", [12, 60])
def test_an_edit_acts_whether_it_copies_or_not(name: str, length: int) -> None:
    model, inputs = shared(name), plain_tokens(2, length)
    plain = first(forward(model, inputs))
    outputs = []
    for in_place in (False, True):
        with hw.patch(model, FirstKey(in_place=in_place)), hw.capture(model, stats=True, maps=True) as trace:
            outputs.append(first(forward(model, inputs)))
        for site in trace.sites:
            assert trace.maps[site][..., 0].eq(1).all()
            torch.testing.assert_close(
                trace.records[site]["entropy"], torch.zeros(2, 4, length), rtol=0, atol=1e-6
            )
    assert torch.equal(*outputs)
    assert not torch.allclose(outputs[0], plain, atol=1e-2)


QUANTITIES = {
    "z": ("heads", {"heads": True}),
    "q": ("queries", {"qkv": True}),
    "k": ("keys", {"qkv": True}),
    "v": ("values", {"qkv": True}),
    "pattern": ("maps", {"rows": range(12)}),
    "residual": ("residual", {"residual": True}),
}
"""Where a trace holds each quantity that can be replaced, and how to ask for it.

Not with `maps`, under which the model computes with the patterns, as eager attention does.
"""


def recorded(model: PreTrainedModel, inputs: Inputs, quantity: str, layer: int) -> torch.Tensor:
    """What a forward gives for a quantity at a layer."""
    view, options = QUANTITIES[quantity]
    with hw.capture(model, stats=False, **options) as trace:
        forward(model, inputs)
    return getattr(trace, view)[trace.site(layer)]


@pytest.mark.parametrize(
    "name", telling(["gpt2", "llama", "gemma2", "bert", "bart", "t5"], ("llama", "bart"))
)
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(
    ("variant", "attention"), crossed(["plain", "padded"], [None, "eager"], ["plain", "padded"])
)
def test_putting_back_what_was_recorded_changes_no_bit(
    name: str, quantity: str, variant: str, attention: str | None
) -> None:
    model, inputs = shared(name, attention), ARCHITECTURES[name].inputs[variant]()
    expected = first(forward(model, inputs))
    for layer in (0, 1):
        value = recorded(model, inputs, quantity, layer)
        with hw.patch(model, fixes.Replace(quantity=quantity, layer=layer, value=value)):
            assert torch.equal(first(forward(model, inputs)), expected), layer


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_replacing_everything_by_another_run_gives_that_run(quantity: str) -> None:
    """The residual entering the last layer decides the output; the others decide only what they feed."""
    model = shared("llama")
    here, there = plain_tokens(), {"input_ids": random_ids(2, 12, seed=9)}
    value = recorded(model, there, quantity, 1)
    with hw.patch(model, fixes.Replace(quantity=quantity, layer=1, value=value)):
        assert torch.equal(recorded(model, here, quantity, 1), value)
        output = first(forward(model, here))
    assert not torch.equal(output, first(forward(model, here)))
    assert torch.equal(output, first(forward(model, there))) == (quantity == "residual")


def test_replacing_at_one_position_leaves_the_rows_before_it() -> None:
    model = shared("llama")
    here, there = plain_tokens(), {"input_ids": random_ids(2, 12, seed=9)}
    value = recorded(model, there, "z", 0)
    expected = first(forward(model, here))
    with hw.patch(model, fixes.Replace(quantity="z", layer=0, value=value, heads=(2,), positions=(7,))):
        output = first(forward(model, here))
    assert torch.equal(output[:, :7], expected[:, :7])
    assert not torch.equal(output[:, 7], expected[:, 7])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_zeros_for_z_equal_zeroed_columns_of_the_output_projection(name: str) -> None:
    model, inputs = ARCHITECTURES[name].build(), inputs_of(name)
    width, head = 8, 2
    columns = slice(head * width, (head + 1) * width)
    with hw.patch(model, fixes.ZeroHeads(heads=((1, head),))):
        zeroed = first(forward(model, inputs))
    zeros = torch.zeros(2, 12, 4, width)
    with hw.patch(model, fixes.Replace(quantity="z", layer=1, value=zeros, heads=(head,))):
        replaced = first(forward(model, inputs))
    with torch.no_grad():
        if name == "gpt2":  # Conv1D: (in, out)
            model.transformer.h[1].attn.c_proj.weight[columns] = 0
        else:
            model.model.layers[1].self_attn.o_proj.weight[:, columns] = 0
    expected = first(forward(model, inputs))
    torch.testing.assert_close(zeroed, expected, rtol=0, atol=1e-6)
    assert torch.equal(replaced, zeroed)


def test_masked_keys_get_nothing_and_rows_still_sum_to_one() -> None:
    model, inputs = shared("llama"), inputs_of("llama")
    with hw.patch(model, fixes.MaskKeys(keys=(3, 4))), hw.capture(model, maps=True) as trace:
        forward(model, inputs)
    with hw.capture(model, maps=True) as before:
        forward(model, inputs)
    for site in trace.sites:
        assert trace.maps[site][:, :, 5:, 3:5].eq(0).all()
        torch.testing.assert_close(trace.maps[site].sum(-1), torch.ones(2, 4, 12), rtol=0, atol=1e-6)
    site = trace.site(0)
    kept = before.maps[site].clone()
    kept[:, :, 5:, 3:5] = 0
    expected = kept / kept.sum(-1, keepdim=True)
    torch.testing.assert_close(trace.maps[site][:, :, 5:], expected[:, :, 5:], rtol=0, atol=1e-6)


def test_an_edit_that_looks_into_the_future_is_refused() -> None:
    class Future:
        def edit(self, pattern: torch.Tensor, site: hw.Site, context: Any) -> torch.Tensor:
            return torch.full_like(pattern, 1 / pattern.shape[-1])

    model, inputs = shared("llama"), inputs_of("llama")
    with pytest.raises(hw.FixError, match="may not see"), hw.patch(model, Future()):
        forward(model, inputs)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "bert"])
@pytest.mark.parametrize("variant", ["plain", "padded"])
def test_log_sum_exp_is_that_of_the_scores(name: str, variant: str) -> None:
    model, inputs = shared(name), ARCHITECTURES[name].inputs[variant]()
    with hw.capture(model, stats=True, maps=True, qkv=True) as trace:
        forward(model, inputs)
    with hw.capture(model, stats=True) as streamed:
        forward(model, inputs)
    for site in trace.sites:
        q, k, pattern = trace.queries[site], trace.keys[site], trace.maps[site]
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        expected = scores.where(pattern > 0, -torch.inf).logsumexp(-1)
        expected = expected.where(~pattern.isnan().any(-1), torch.nan)
        for each in (trace, streamed):
            torch.testing.assert_close(
                each.records[site]["lse"], expected, rtol=1e-5, atol=1e-5, equal_nan=True
            )


@pytest.mark.parametrize("variant", ["plain", "padded"])
def test_chosen_rows_are_those_of_the_whole_map(variant: str) -> None:
    model, inputs = shared("llama"), ARCHITECTURES["llama"].inputs[variant]()
    with hw.capture(model, stats=False, maps=True) as whole:
        forward(model, inputs)
    with hw.capture(model, stats=True, rows=[2, -1]) as trace:
        forward(model, inputs)
    for site in trace.sites:
        expected = whole.maps[site][:, :, [2, 11]]
        torch.testing.assert_close(trace.maps[site], expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5"])
def test_half_precision_patterns_equal_eager(name: str, dtype: torch.dtype) -> None:
    row = ARCHITECTURES[name]
    eager, model = row.build("eager").to(dtype), row.build().to(dtype)
    inputs = inputs_of(name)
    with recorded_eager(eager) as patterns:
        forward(eager, inputs)
    with hw.capture(model, stats=False, maps=True) as trace:
        forward(model, inputs)
    site = trace.sites[0]
    assert torch.equal(trace.maps[site].to(dtype), patterns[site.module, 0])


def test_the_random_state_is_not_touched() -> None:
    model, inputs = shared("llama"), inputs_of("llama")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with hw.capture(model), torch.no_grad():
        model(**inputs)
    assert torch.equal(torch.rand(3), expected)


def test_padding_is_nan_in_statistics_and_zero_in_keys() -> None:
    model = shared("llama")
    with hw.capture(model, stats=True, maps=True) as trace:
        forward(model, padded_tokens("left"))
    for site in trace.sites:
        record = trace.records[site]
        assert record["entropy"][1, :, :3].isnan().all()
        assert record["entropy"][1, :, 3:].isfinite().all()
        assert record["received"][1, :, :3].isnan().all()
        assert record["maps"][1, :, :3].isnan().all()
        assert record["maps"][1, :, 3:, :3].eq(0).all()
