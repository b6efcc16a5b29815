"""The shared invariance suite: every registered analysis and fix passes it."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise import analyses, fixes
from tests.invariance import (
    FIXES,
    MODELS,
    NEUTRAL,
    TOLERANCE,
    alone,
    analysed,
    assert_same_frame,
    decode,
    equal_length_pair,
    models_of,
    patched,
    together,
    ungrouped,
    without_padding,
)
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import PADDED
from tests.tiny.reference import first, forward
from tests.tiny.telling import telling

every_analysis = pytest.mark.parametrize("name", analyses.names())
FEW = ("llama", "bert", "llava")
PAIRS = [(architecture, name) for name in fixes.names() for architecture in models_of(name)]
DECODERS = telling([pair for pair in PAIRS if pair[0] != "bert"], FEW)
GROUPED = [pair for pair in PAIRS if pair[0] in ("llama", "llava")]
every_fix = pytest.mark.parametrize(("architecture", "name"), telling(PAIRS, FEW))
every_model = pytest.mark.parametrize("architecture", telling(MODELS, FEW))
both_sides = pytest.mark.parametrize("side", ["left", "right"])


def test_every_registered_fix_is_tested() -> None:
    assert set(FIXES) == set(fixes.names()) == set(NEUTRAL)


@every_analysis
@every_model
@both_sides
def test_analyses_ignore_padding(name: str, architecture: str, side: str) -> None:
    model = ARCHITECTURES[architecture].build()
    batch = analysed(name, model, [lambda m: forward(m, together(side))])
    single = analysed(name, model, [lambda m: forward(m, alone(0)), lambda m: forward(m, alone(1))])
    assert_same_frame(without_padding(batch, PADDED if side == "left" else 0), single)


@every_analysis
@every_model
def test_analyses_ignore_batching(name: str, architecture: str) -> None:
    model, inputs = ARCHITECTURES[architecture].build(), equal_length_pair()
    halves = [{field: value[i : i + 1] for field, value in inputs.items()} for i in (0, 1)]
    batch = analysed(name, model, [lambda m: forward(m, inputs)])
    single = analysed(name, model, [lambda m, half=half: forward(m, half) for half in halves])
    assert_same_frame(batch, single)


@every_analysis
def test_analyses_count_grouped_heads_as_heads(name: str) -> None:
    model = ARCHITECTURES["llama"].build()
    frames = [analysed(name, m, [lambda m: forward(m, alone(0))]) for m in (model, ungrouped(model))]
    assert_same_frame(*frames)


@every_analysis
@pytest.mark.parametrize("architecture", telling(["gpt2", "llama", "gemma2"], FEW))
def test_analyses_of_cached_and_uncached_decoding_agree(name: str, architecture: str) -> None:
    model = ARCHITECTURES[architecture].build()
    cached = analysed(name, model, [lambda m: decode(m, equal_length_pair(), use_cache=True)])
    uncached = analysed(name, model, [lambda m: decode(m, equal_length_pair(), use_cache=False)])
    assert_same_frame(cached, uncached)


@every_analysis
@every_model
def test_analyses_do_not_depend_on_the_kernel(name: str, architecture: str) -> None:
    row = ARCHITECTURES[architecture]
    frames = [
        analysed(name, row.build(attention), [lambda m: forward(m, together("left"))])
        for attention in (None, "eager")
    ]
    assert_same_frame(*frames)


@every_fix
def test_fixes_act(name: str, architecture: str) -> None:
    model = ARCHITECTURES[architecture].build()
    text = alone(0, architecture)
    plain = first(forward(model, text))
    assert not torch.allclose(patched(FIXES[name](0), model, text), plain, atol=1e-4)
    assert torch.equal(first(forward(model, text)), plain)


@every_fix
@both_sides
def test_fixes_ignore_padding(name: str, architecture: str, side: str) -> None:
    """Positions count padding, so a fix on a left-padded batch sits `PADDED` places further to the right."""
    model = ARCHITECTURES[architecture].build()
    shift = PADDED if side == "left" else 0
    batch = patched(FIXES[name](shift), model, together(side, architecture))
    texts = [alone(example, architecture) for example in (0, 1)]
    single = [patched(FIXES[name](shift), model, texts[0]), patched(FIXES[name](0), model, texts[1])]
    torch.testing.assert_close(batch[:1], single[0], **TOLERANCE)
    length = single[1].shape[1]
    torch.testing.assert_close(batch[1:, shift : shift + length], single[1], **TOLERANCE)


@every_fix
def test_fixes_ignore_batching(name: str, architecture: str) -> None:
    model, inputs = ARCHITECTURES[architecture].build(), equal_length_pair(architecture)
    batch = patched(FIXES[name](0), model, inputs)
    for example in (0, 1):
        half = {field: value[example : example + 1] for field, value in inputs.items()}
        torch.testing.assert_close(
            batch[example : example + 1], patched(FIXES[name](0), model, half), **TOLERANCE
        )


@pytest.mark.parametrize(("architecture", "name"), GROUPED)
def test_fixes_address_query_heads_of_grouped_models(name: str, architecture: str) -> None:
    model, text = ARCHITECTURES[architecture].build(), alone(0, architecture)
    outputs = [patched(FIXES[name](0), m, text) for m in (model, ungrouped(model))]
    torch.testing.assert_close(*outputs, **TOLERANCE)


@pytest.mark.parametrize(("architecture", "name"), DECODERS)
def test_fixed_models_decode_alike_with_and_without_a_cache(name: str, architecture: str) -> None:
    model, inputs = ARCHITECTURES[architecture].build(), equal_length_pair(architecture)
    with hw.patch(model, FIXES[name](0)):
        tokens, logits = decode(model, inputs, use_cache=True)
        same_tokens, same_logits = decode(model, inputs, use_cache=False)
    assert torch.equal(tokens, same_tokens)
    torch.testing.assert_close(logits, same_logits, **TOLERANCE)


@every_fix
def test_fixes_do_not_depend_on_the_kernel(name: str, architecture: str) -> None:
    row, inputs = ARCHITECTURES[architecture], together("left", architecture)
    outputs = [patched(FIXES[name](PADDED), row.build(attention), inputs) for attention in (None, "eager")]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(outputs[0][real], outputs[1][real], **TOLERANCE)


@every_fix
def test_fixed_patterns_stay_patterns(name: str, architecture: str) -> None:
    """Rows sum to one, nothing is negative, padded keys and keys that a row may not see stay zero."""
    model, inputs = ARCHITECTURES[architecture].build(), together("left", architecture)
    with hw.capture(model, maps=True) as plain:
        forward(model, inputs)
    with hw.patch(model, FIXES[name](PADDED)), hw.capture(model, maps=True) as fixed:
        forward(model, inputs)
    for site in plain.sites:
        before, after = plain.maps[site], fixed.maps[site]
        real = ~before.isnan().any(-1)
        torch.testing.assert_close(after[real].sum(-1), before[real].sum(-1), atol=1e-5, rtol=0)
        assert (after[real] >= 0).all()
        assert (after[real][before[real] == 0] == 0).all()


@every_fix
def test_fixed_rows_depend_on_nothing_behind_them(name: str, architecture: str) -> None:
    """A later token is exchanged: earlier logits stay the same, bit for bit, in models that read from the left."""
    if architecture == "bert":
        pytest.skip("bert reads both ways")
    model, inputs = ARCHITECTURES[architecture].build(), alone(0, architecture)
    place = inputs["input_ids"].shape[1] - 3
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][:, place] = 7
    if name == "vhr":
        pytest.skip("its heads are chosen by what stands at the end of the prompt, for all positions")
    outputs = [patched(FIXES[name](0), model, given) for given in (inputs, other)]
    assert torch.equal(outputs[0][:, :place], outputs[1][:, :place])


@every_fix
def test_neutral_fixes_are_bit_identical(name: str, architecture: str) -> None:
    model, text = ARCHITECTURES[architecture].build(), together("left", architecture)
    assert torch.equal(patched(NEUTRAL[name], model, text), first(forward(model, text)))
