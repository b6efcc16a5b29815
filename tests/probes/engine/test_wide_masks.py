"""A mask made once for all that is to come is wider than the sequence: what is behind its end is nothing yet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import StaticCache

import headwise as hw
from headwise.testing.inputs import together
from tests.kit.fixes import FIXES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.shared import shared
from tests.tiny.telling import telling

SLOTS = 24
STEPS = 3
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
DECODERS = ("gpt2", "llama", "gemma2", "mistral", "gpt_neox", "qwen3", "phi3", "olmo2", "gpt_oss", "granite")
ACT = FIXES["act"](0)
caches = pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
fillings = pytest.mark.parametrize("later", [0, 1], ids=["hidden later", "shown later"])


def loop(model: Any, *, static: bool, later: int | None) -> list[torch.Tensor]:
    """A prompt and some steps with a cache; a mask as long as the sequence where `later` is None.

    Returns:
        The logits of every forward.
    """
    batch, ids = together("left"), together("left")["input_ids"]
    mask = batch["attention_mask"]
    cache = StaticCache(config=model.config, max_cache_len=SLOTS) if static else None
    rows, position, logits = ids, ids.shape[1], []
    for step in range(STEPS):
        width = 0 if later is None else SLOTS - mask.shape[1]
        shown = torch.nn.functional.pad(mask, (0, width), value=later or 0)
        places = (mask.cumsum(-1) - 1).clamp_min(0)[:, -rows.shape[1] :]
        named = {} if "position_ids" not in model.forward.__code__.co_varnames else {"position_ids": places}
        with torch.no_grad():
            out = model(
                input_ids=rows, attention_mask=shown, use_cache=True, **named, **with_cache(model, cache)
            )
        cache = cache_of(out)
        logits.append(out.logits)
        rows = torch.tensor([[7 + step], [9 + step]])
        mask, position = torch.nn.functional.pad(mask, (0, 1), value=1), position + 1
    return logits


def same(some: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    real = together("left")["attention_mask"].bool()
    torch.testing.assert_close(some[0][real], others[0][real], **CLOSE)
    torch.testing.assert_close(some[1:], others[1:], **CLOSE)


@fillings
@caches
@pytest.mark.parametrize("name", telling(DECODERS, ("llama", "gemma2")))
def test_a_wide_mask_says_what_a_fitting_one_says(name: str, static: bool, later: int) -> None:
    model = shared(name)
    same(loop(model, static=static, later=later), loop(model, static=static, later=None))
    traces, fixed = [], []
    for shown in (None, later):
        with hw.capture(model, maps=True) as trace:
            loop(model, static=static, later=shown)
        traces.append(trace)
        with hw.patch(model, ACT):
            fixed.append(loop(model, static=static, later=shown))
    same(*fixed)
    roles = [trace.layout.axes["text"].roles for trace in traces]
    assert torch.equal(*roles)
    for site in traces[0].sites:
        torch.testing.assert_close(*[trace.maps[site] for trace in traces], **CLOSE, equal_nan=True)


@pytest.mark.parametrize("name", telling((*DECODERS, "bloom"), ("bloom",)))
def test_padding_is_known_to_generate_with_a_static_cache(name: str) -> None:
    model, batch = shared(name), together("left")
    del batch["position_ids"]
    options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    traces, logits = [], []
    for kind in ({}, {"cache_implementation": "static"}):
        with hw.capture(model, maps=True) as trace:
            model.generate(**batch, **options, **kind)
        traces.append(trace)
        with hw.patch(model, ACT):
            logits.append(torch.stack(model.generate(**batch, **options, **kind).logits))
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(*[trace.layout.axes["text"].roles for trace in traces])
    for site in traces[0].sites:
        torch.testing.assert_close(
            *[trace.maps[site] for trace in traces], atol=1e-4, rtol=1e-4, equal_nan=True
        )
