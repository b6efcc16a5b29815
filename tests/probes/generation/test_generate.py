"""Captures around `generate`: tokens stay the same, and rows are those of one forward on the final ids."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import PADDED, Inputs, forward, random_ids
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.inputs import padded_tokens, plain_tokens
from tests.tiny.shared import shared
from tests.tiny.telling import crossed, telling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise import Site, Trace

NEW = 6
CLOSE = {"rtol": 0.0, "atol": 2e-6}
DECODERS = ("gpt2", "llama", "mistral", "gemma2", "gpt_oss", "deepseek_v3", "opt", "bloom", "gptj")
TRANSLATORS = ("bart", "t5", "marian", "whisper", "moonshine")
FEW = ("llama", "gemma2", "bloom", "t5", "whisper")
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "uncached": {"use_cache": False},
    "sampling": {"do_sample": True, "top_k": 20},
    "beams": {"num_beams": 3},
    "static cache": {"cache_implementation": "static"},
}


def generate(model: PreTrainedModel, inputs: Inputs, **options: Any) -> torch.Tensor:
    """Exactly `NEW` new tokens, from a fixed random state; no end token can stop it."""
    options = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "pad_token_id": 0} | options
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        return model.generate(**inputs, **options)


def fed(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """What the model was fed to write `ids`: all but the last token. Whisper hands out no start token."""
    if model.main_input_name == "input_features":
        ids = torch.nn.functional.pad(ids, (1, 0), value=model.config.decoder_start_token_id)
    return ids[:, :-1]


def whole_inputs(model: PreTrainedModel, inputs: Inputs, ids: torch.Tensor) -> Inputs:
    """The arguments of one forward on everything that was fed during generation."""
    final: Inputs = {"input_ids": fed(model, ids)}
    if model.config.is_encoder_decoder:
        return inputs | {"decoder_input_ids": fed(model, ids)}
    if "attention_mask" in inputs:
        grown = final["input_ids"].shape[1] - inputs["attention_mask"].shape[1]
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, grown), value=1)
        final["attention_mask"] = mask
        if "position_ids" in inspect.signature(model.forward).parameters:
            final["position_ids"] = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
    return final


def complete(model: PreTrainedModel, inputs: Inputs, ids: torch.Tensor, **more: Any) -> Trace:
    """A capture of one forward on everything that was fed during generation."""
    with hw.capture(model, **{"stats": True, "maps": True, **more}) as trace:
        forward(model, whole_inputs(model, inputs, ids), use_cache=False)
    return trace


def assert_same_rows(
    trace: Trace, whole: Trace, site: Site, examples: slice | list[int] = slice(None)
) -> None:
    """The patterns of two captures agree, as far as keys exist in both; what lies behind is zero."""
    pattern, expected = trace.maps[site][examples], whole.maps[site]
    keys = expected.shape[-1]
    assert torch.equal(trace.positions[site], whole.positions[site]), site
    assert pattern[..., keys:].nan_to_num().eq(0).all(), site
    torch.testing.assert_close(pattern[..., :keys], expected, equal_nan=True, **CLOSE)


def assert_same_statistics(trace: Trace, whole: Trace, site: Site) -> None:
    """The statistics of two captures agree; roles may differ, since only one knows what was generated."""
    record, expected = trace.records[site], whole.records[site]
    for field in ("entropy", "maximum", "lse", "distance", "n_keys"):
        torch.testing.assert_close(record[field], expected[field], rtol=1e-5, atol=1e-5, equal_nan=True)
    keys = expected["received"].shape[-1]
    for field in ("received", "n_queries"):
        torch.testing.assert_close(
            record[field][..., :keys], expected[field], rtol=1e-5, atol=1e-5, equal_nan=True
        )
    torch.testing.assert_close(
        record["mass"].sum(-1), expected["mass"].sum(-1), rtol=1e-5, atol=1e-5, equal_nan=True
    )


def prompt(name: str) -> Inputs:
    """What the model is given before it writes: two examples without padding."""
    row = ARCHITECTURES[name]
    inputs = row.inputs["plain"]()
    return {field: value for field, value in inputs.items() if not field.startswith("decoder")}


def skip_without_static_cache(name: str) -> None:
    """Skip where the model has no static cache, or fails on it in this release without headwise."""
    model = shared(name)
    if not model._can_compile_fullgraph:
        pytest.skip("the model has no static cache")
    try:
        generate(model, prompt(name), **MODES["static cache"])
    except ValueError as error:  # Bloom on transformers 5.20
        pytest.skip(f"the model fails on a static cache by itself: {error}")


@pytest.mark.parametrize(
    ("name", "mode"),
    crossed(DECODERS + TRANSLATORS, MODES, FEW, [("t5", "beams"), ("whisper", "static cache")]),
)
def test_the_tokens_are_the_same_with_and_without_a_capture(name: str, mode: str) -> None:
    if mode == "static cache":
        skip_without_static_cache(name)
    model, inputs = shared(name), prompt(name)
    expected = generate(model, inputs, **MODES[mode])
    with hw.capture(model, stats=True):
        assert torch.equal(generate(model, inputs, **MODES[mode]), expected)
    assert torch.equal(generate(model, inputs, **MODES[mode]), expected)


@pytest.mark.parametrize(
    ("name", "mode"),
    crossed(
        DECODERS + TRANSLATORS,
        ["greedy", "uncached", "sampling", "static cache"],
        FEW,
        [("t5", "uncached"), ("whisper", "static cache")],
    ),
)
def test_captured_rows_are_those_of_one_forward_on_the_final_ids(name: str, mode: str) -> None:
    if mode == "static cache":
        skip_without_static_cache(name)
    model, inputs = shared(name), prompt(name)
    with hw.capture(model, stats=True, maps=True) as trace:
        ids = generate(model, inputs, **MODES[mode])
    whole = complete(model, inputs, ids)
    assert set(trace.sites) == set(whole.sites)
    for site in trace.sites:
        assert_same_rows(trace, whole, site)
        assert_same_statistics(trace, whole, site)


@pytest.mark.parametrize("name", telling(DECODERS + TRANSLATORS, FEW))
def test_beam_search_keeps_the_rows_of_the_beams_that_win(name: str) -> None:
    """With `beams="all"` as many examples as there are beams; the winners stand in front."""
    model, inputs = shared(name), prompt(name)
    with hw.capture(model, stats=True, maps=True, beams="all") as trace:
        ids = generate(model, inputs, num_beams=3)
    whole = complete(model, inputs, ids)
    assert trace.returned == tuple(3 * example for example in range(len(ids)))
    beams = trace.layout.axes["decoder" if model.config.is_encoder_decoder else "text"].ids
    assert beams[list(trace.returned)].tolist() == fed(model, ids).tolist()
    for site in trace.sites:
        alone = site.tower == "encoder"
        assert len(trace.maps[site]) == (len(ids) if alone else 3 * len(ids))
        assert_same_rows(trace, whole, site, slice(None) if alone else list(trace.returned))


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2", "bloom"])
def test_left_padded_batches_give_what_each_example_gives_alone(name: str) -> None:
    model, inputs = shared(name), padded_tokens("left")
    with hw.capture(model, stats=True, maps=True) as trace:
        ids = generate(model, inputs)
    whole = complete(model, inputs, ids)
    alone = {"input_ids": inputs["input_ids"][1:, PADDED:]}
    with hw.capture(model, stats=True, maps=True) as single:
        assert torch.equal(generate(model, alone), ids[1:, PADDED:])
    for site in trace.sites:
        assert_same_rows(trace, whole, site)
        assert_same_statistics(trace, whole, site)
        pattern = trace.maps[site][1:, :, PADDED:, PADDED:]
        torch.testing.assert_close(pattern, single.maps[site], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2", "bloom"])
def test_right_padded_batches_decode_to_the_rows_of_one_forward(name: str) -> None:
    """`generate` is no help here: it numbers the positions behind right padding in a way of its own."""
    model, inputs = shared(name), padded_tokens("right")
    length = inputs["input_ids"].shape[1]
    ids = torch.cat([inputs["input_ids"], random_ids(2, NEW, seed=6)], dim=1)
    whole = complete(model, inputs, ids)
    final = whole_inputs(model, inputs, ids)
    cache = None
    with hw.capture(model, stats=True, maps=True) as trace:
        for start, stop in [(0, length), *((at, at + 1) for at in range(length, length + NEW - 1))]:
            step = {name: value[:, start:stop] for name, value in final.items()}
            step["attention_mask"] = final["attention_mask"][:, :stop]
            cache = cache_of(forward(model, step, **with_cache(model, cache), use_cache=True))
    for site in trace.sites:
        assert_same_rows(trace, whole, site)
        assert_same_statistics(trace, whole, site)


@pytest.mark.parametrize("name", ["bart", "t5", "marian"])
def test_padded_sources_give_what_each_source_gives_alone(name: str) -> None:
    model, inputs = shared(name), padded_tokens("right")
    with hw.capture(model, stats=True, maps=True) as trace:
        ids = generate(model, inputs)
    alone = {"input_ids": inputs["input_ids"][1:, :-3]}
    with hw.capture(model, stats=True, maps=True) as single:
        assert torch.equal(generate(model, alone), ids[1:])
    for site in single.sites:
        expected = single.maps[site]
        pattern = trace.maps[site][1:, :, : expected.shape[2], : expected.shape[3]]
        torch.testing.assert_close(pattern, expected, rtol=0, atol=1e-5)


def test_generated_positions_are_known_as_such() -> None:
    model, inputs = shared("llama"), plain_tokens()
    from headwise.layout import ROLES

    for options in ({}, {"use_cache": False}):
        with hw.capture(model) as trace:
            generate(model, inputs, **options)
        roles = trace.layout.axes["text"].roles
        generated = roles == ROLES.index("generated")
        assert not generated[:, :12].any()
        assert generated[:, 12:].all()


def test_every_call_of_generate_adds_its_examples() -> None:
    model = shared("llama")
    first, second = plain_tokens(2, 12), {"input_ids": random_ids(1, 5, seed=4)}
    with hw.capture(model, maps=True) as trace:
        generate(model, first)
        generate(model, second)
    with hw.capture(model, maps=True) as alone:
        generate(model, second)
    assert trace.examples == 3
    for site in trace.sites:
        rows = alone.maps[site].shape[2]
        torch.testing.assert_close(trace.maps[site][2:, :, :rows, :rows], alone.maps[site], **CLOSE)
        assert trace.maps[site][2, :, rows:].isnan().all()
        for field in ("entropy", "received"):
            whole = alone.records[site][field]
            torch.testing.assert_close(trace.records[site][field][2:, :, :rows], whole, **CLOSE)


def test_several_samples_of_one_prompt_are_several_examples() -> None:
    model, inputs = shared("llama"), plain_tokens(1)
    with hw.capture(model, maps=True) as trace:
        ids = generate(model, inputs, do_sample=True, num_return_sequences=4)
    assert trace.examples == 4
    whole = complete(model, inputs, ids)
    for site in trace.sites:
        assert_same_rows(trace, whole, site)


def test_a_prompt_fed_in_pieces_gives_the_rows_of_the_whole_prompt() -> None:
    model, inputs = shared("llama"), plain_tokens()
    ids = inputs["input_ids"]
    with hw.capture(model, stats=True, maps=True) as trace:
        output = forward(model, {"input_ids": ids[:, :5]}, use_cache=True)
        forward(model, {"input_ids": ids[:, 5:]}, **with_cache(model, cache_of(output)))
    with hw.capture(model, stats=True, maps=True) as whole:
        forward(model, inputs)
    assert trace.examples == 2
    for site in trace.sites:
        assert_same_rows(trace, whole, site)
        assert_same_statistics(trace, whole, site)


def test_a_cache_filled_before_the_capture_keeps_its_positions() -> None:
    model, inputs = shared("llama"), plain_tokens()
    ids = inputs["input_ids"]
    cached = cache_of(forward(model, {"input_ids": ids[:, :5]}, use_cache=True))
    with hw.capture(model, stats=True, maps=True) as trace:
        forward(model, {"input_ids": ids[:, 5:]}, **with_cache(model, cached))
    with hw.capture(model, stats=True, maps=True) as whole:
        forward(model, inputs)
    for site in trace.sites:
        assert trace.positions[site].tolist() == list(range(5, 12))
        torch.testing.assert_close(trace.maps[site], whole.maps[site][:, :, 5:], **CLOSE)


def test_rolled_back_drafts_leave_no_rows() -> None:
    """Prompt-lookup decoding feeds guesses and takes some of them back."""
    model = shared("llama")
    ids = random_ids(1, 6)
    inputs = {"input_ids": torch.cat([ids, ids, ids], dim=1)}
    with hw.capture(model, stats=True, maps=True) as trace:
        final = generate(model, inputs, prompt_lookup_num_tokens=3)
    assert torch.equal(final, generate(model, inputs))
    whole = complete(model, inputs, final)
    for site in trace.sites:
        assert_same_rows(trace, whole, site)
        assert_same_statistics(trace, whole, site)
