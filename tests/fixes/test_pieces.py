"""A prompt that comes in pieces: every fix does as in one reading, or refuses it in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

import headwise as hw
from headwise.errors import FixError
from headwise.testing.inputs import PADDED, alone, equal_length_pair, together
from tests.kit.fixes import FIXES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.shared import shared
from tests.tiny.telling import telling

GREEDY = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "pad_token_id": 0}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
VAR = FIXES["var"](0)
VHR = hw.fixes.VHR(layers=(0, 1))
ACT = FIXES["act"](0)
WHOLE = {
    "vhr": VHR,
    "vhr masking": replace(VHR, without="mask"),
    "vhr skipping": replace(VHR, no_image="skip"),
    "act full": replace(ACT, mode="full"),
    "act released": replace(ACT, variant="released"),
    "set_rows": FIXES["set_rows"](0),
}
"""Fixes that have to see a prompt as a whole."""
BY_PIECE = {
    "act": ACT,
    "mask_keys": hw.fixes.MaskKeys(keys=(9, 10)),
    "scale_heads": FIXES["scale_heads"](0),
    "zero_heads": FIXES["zero_heads"](0),
    "replace": replace(FIXES["replace"](0), layer=0, positions=(9,)),
    "set_rows": replace(FIXES["set_rows"](0), row=11, weights={8: 1.0}),
}
VARS = {
    "var": replace(VAR, no_image="skip"),
    "var text sinks": replace(VAR, no_image="skip", require_visual_sink=False, tau=1.0),
    "var released": replace(VAR, no_image="skip", variant="released"),
}
DECODERS = ("gpt2", "llama", "gemma2", "mistral", "gpt_neox", "qwen3", "phi3", "olmo2", "gpt_oss")
SIZES = (5, 1, 2, 11)
PROMPT = 1 + 16 + 12


def few(values: Sequence[Any]) -> list[Any]:
    """The values as parameters; all but the first are slow."""
    return [
        pytest.param(value, marks=pytest.mark.slow if number else ()) for number, value in enumerate(values)
    ]


def logits_of(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    """Logits of greedy decoding, (example, step, word)."""
    inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
    options = GREEDY | {"output_logits": True, "return_dict_in_generate": True} | options
    return torch.stack(model.generate(**inputs, **options).logits, 1)


def require_pieces(model: Any, inputs: dict[str, Any], size: int) -> None:
    """Skips a release before transformers 5.23, whose own LLaVA loses the image in pieces."""
    whole, pieces = logits_of(model, inputs), logits_of(model, inputs, prefill_chunk_size=size)
    if not torch.allclose(whole, pieces, atol=1e-4):
        pytest.skip("the plain model reads pieces otherwise")


def pieces_of(model: Any, inputs: dict[str, Any], cut: int) -> None:
    """A prompt in two forwards of one's own, the image with the first."""
    first = {name: value[:, :cut] if name == "input_ids" else value for name, value in inputs.items()}
    with torch.no_grad():
        cache = cache_of(model(**first, use_cache=True))
        model(input_ids=inputs["input_ids"][:, cut:], **with_cache(model, cache))


@pytest.mark.parametrize("size", few([PROMPT - 1, 1, 2, 7, 20]))
@pytest.mark.parametrize("fix", WHOLE.values(), ids=WHOLE)
def test_pieces_of_generate_are_refused_by_fixes_that_need_the_whole(fix: Any, size: int) -> None:
    model, inputs = shared("llava"), alone(0, "llava")
    plain = logits_of(model, inputs)
    with hw.patch(model, fix):
        fixed = logits_of(model, inputs)
        assert not torch.allclose(fixed, plain, atol=1e-4)
        with pytest.raises(FixError, match="in pieces"):
            logits_of(model, inputs, prefill_chunk_size=size)
        assert torch.equal(logits_of(model, inputs), fixed)
    assert torch.equal(logits_of(model, inputs), plain)


@pytest.mark.parametrize("fix", WHOLE.values(), ids=WHOLE)
def test_a_single_piece_is_the_whole(fix: Any) -> None:
    model, inputs = shared("llava"), alone(0, "llava")
    require_pieces(model, inputs, PROMPT)
    with hw.patch(model, fix):
        assert torch.equal(logits_of(model, inputs, prefill_chunk_size=PROMPT), logits_of(model, inputs))


@pytest.mark.parametrize("fix", WHOLE.values(), ids=WHOLE)
def test_pieces_of_a_loop_of_ones_own_are_refused_by_fixes_that_need_the_whole(fix: Any) -> None:
    model, inputs = shared("llava"), alone(0, "llava")
    del inputs["position_ids"]
    with hw.patch(model, fix), pytest.raises(FixError, match="in pieces"):
        pieces_of(model, inputs, 20)


@pytest.mark.parametrize("size", few(SIZES))
@pytest.mark.parametrize("fix", BY_PIECE.values(), ids=BY_PIECE)
@pytest.mark.parametrize("name", telling(DECODERS, ("llama",)))
def test_pieces_are_one_reading(name: str, fix: Any, size: int) -> None:
    model, batch = shared(name), together("left")
    plain = logits_of(model, batch)
    torch.testing.assert_close(logits_of(model, batch, prefill_chunk_size=size), plain, **CLOSE)
    with hw.patch(model, fix):
        whole = logits_of(model, batch)
        torch.testing.assert_close(logits_of(model, batch, prefill_chunk_size=size), whole, **CLOSE)
    assert not torch.allclose(whole, plain, atol=1e-4)


@pytest.mark.parametrize("size", few([5, 1, 3, 14, 20]))
@pytest.mark.parametrize("fix", VARS.values(), ids=VARS)
def test_pieces_are_one_reading_to_var(fix: Any, size: int) -> None:
    model, batch = shared("llava"), equal_length_pair("llava")
    require_pieces(model, batch, size)
    plain = logits_of(model, batch)
    with hw.patch(model, fix):
        whole = logits_of(model, batch)
        torch.testing.assert_close(logits_of(model, batch, prefill_chunk_size=size), whole, **CLOSE)
    assert not torch.allclose(whole, plain, atol=1e-4)


@pytest.mark.parametrize("size", few([18, 21]))
@pytest.mark.parametrize(("tau", "late"), [(1.5, False), (2.1, True)])
def test_var_refuses_a_first_sink_in_a_later_image(tau: float, late: bool, size: int) -> None:
    """Text behind an image is left alone unless an image of the prompt holds a sink: a later one may tell."""
    model, one, other = shared("llava"), alone(0, "llava"), alone(1, "llava")
    inputs = {name: torch.cat([one[name], other[name]], int(name != "pixel_values")) for name in one}
    require_pieces(model, inputs, size)
    with hw.patch(model, replace(VAR, tau=tau, no_image="skip")):
        whole = logits_of(model, inputs)
        if late:
            with pytest.raises(FixError, match="in pieces"):
                logits_of(model, inputs, prefill_chunk_size=size)
        else:
            torch.testing.assert_close(logits_of(model, inputs, prefill_chunk_size=size), whole, **CLOSE)


@pytest.mark.parametrize("size", few(SIZES))
@pytest.mark.parametrize("name", telling((*DECODERS, "bloom"), ("llama", "gemma2")))
def test_a_first_piece_of_padding_spares_the_first_token_of_act(name: str, size: int) -> None:
    """Where min_rows is 1 the first token would be a sink, were it not spared."""
    model, batch = shared(name), together("left")
    short = {"input_ids": batch["input_ids"][1:, PADDED:]}
    deep = {n: torch.nn.functional.pad(v, (4, 0)) for n, v in batch.items() if n != "position_ids"}
    plain = logits_of(model, short)
    with hw.patch(model, replace(ACT, alpha=0.5, beta=0.1, min_rows=1)):
        single = logits_of(model, short)
        padded = logits_of(model, deep, prefill_chunk_size=size)[1:]
    assert not torch.allclose(single, plain, atol=1e-4)
    torch.testing.assert_close(padded, single, **CLOSE)


@pytest.mark.parametrize("size", few(SIZES))
def test_every_piece_is_prompt_to_a_capture(size: int) -> None:
    model, batch = shared("llama"), together("left")
    with hw.capture(model, maps=True) as whole:
        logits_of(model, batch)
    with hw.capture(model, maps=True) as pieces:
        logits_of(model, batch, prefill_chunk_size=size)
    assert torch.equal(whole.layout.axes["text"].roles, pieces.layout.axes["text"].roles)
    for site in whole.sites:
        torch.testing.assert_close(pieces.maps[site], whole.maps[site], **CLOSE, equal_nan=True)
