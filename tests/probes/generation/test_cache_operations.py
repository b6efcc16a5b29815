"""What is done to a key-value cache between two forwards: used again, cropped, examples left out, copied, moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

import headwise as hw
from headwise.layout import ROLES
from headwise.probes.engine.instrumentation import instrument
from headwise.testing.inputs import first, forward, random_ids
from tests.probes.generation.test_generate import (
    DECODERS,
    complete,
    generate,
    prompt,
    skip_without_static_cache,
)
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import with_cache
from tests.tiny.shared import shared
from tests.tiny.telling import crossed, telling

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5, "equal_nan": True}
HEADS = ((0, 0), (1, 1))
ACT = hw.fixes.ACT(heads=HEADS, alpha=0.5, beta=0.1, min_rows=1)
PATCHES = {
    "running": ACT,
    "off": hw.fixes.ACT(heads=HEADS, alpha=0.5, beta=0.1, min_rows=1, decode="off"),
    "full": hw.fixes.ACT(heads=HEADS, alpha=0.5, beta=0.1, min_rows=1, mode="full"),
    "scale": hw.fixes.ScaleHeads(heads=HEADS, factor=0.2),
}
EVERYTHING: dict[str, Any] = {"maps": True, "qkv": True, "heads": True, "residual": True}
FEW = ("llama",)


def assert_same_records(trace: hw.Trace, whole: hw.Trace, examples: slice | list[int] = slice(None)) -> None:
    """Every field of the given examples has the shape and the values that it has in another capture.

    Roles may differ, since only one knows what was generated; a sliding cache holds its last keys alone.
    """
    assert set(trace.sites) == set(whole.sites)
    for site in trace.sites:
        record, expected = trace.records[site], whole.records[site]
        assert set(record) == set(expected), site
        for field, value in expected.items():
            own = record[field]
            if field == "positions":
                assert torch.equal(own, value), site
                continue
            own = own[examples]
            if field == "mass":
                own, value = own.sum(-1), value.sum(-1)
            if field in ("k", "v") and own.shape[2] < value.shape[2]:
                value = value[:, :, -own.shape[2] :]
            torch.testing.assert_close(own, value, **CLOSE)


def step(model: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits of the given words behind a cache."""
    return first(forward(model, {"input_ids": ids}, **with_cache(model, cache), use_cache=True))


def empty(model: Any, kind: str) -> Any:
    """A cache with nothing in it; a dynamic one can be cropped, also where windows slide."""
    if kind == "static":
        return StaticCache(config=model.config, max_cache_len=32)
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()
    return cache


def emptied(cache: Any, way: str) -> None:
    """Takes everything out of a cache."""
    if way == "crop":
        if any(layer.is_initialized for layer in cache.layers):
            cache.crop(-cache.get_seq_length())
    else:
        cache.reset()


# -- used again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize(
    ("way", "own_loop"), crossed(["dynamic", "crop", "static"], [False, True], ["dynamic", "crop", "static"])
)
def test_a_cache_that_is_used_again_begins_another_example(name: str, way: str, own_loop: bool) -> None:
    if way == "static":
        skip_without_static_cache(name)
    model = shared(name)
    prompts = [random_ids(1, 6, seed=4), random_ids(1, 6, seed=5)]
    new = random_ids(1, 3, seed=6)

    def read(ids: torch.Tensor, cache: Any) -> torch.Tensor:
        if own_loop:
            logits = [step(model, part, cache)[:, -1] for part in (ids, new[:, :1], new[:, 1:2], new[:, 2:])]
            return torch.stack(logits)
        return generate(model, {"input_ids": ids}, **with_cache(model, cache), disable_compile=True)

    kind = "static" if way == "static" else "dynamic"
    for fix in (None, PATCHES["running"], PATCHES["off"]):
        with hw.patch(model, fix) if fix else torch.no_grad():
            alone, results = [], []
            for ids in prompts:
                with hw.capture(model, **EVERYTHING) as trace:
                    results.append(read(ids, empty(model, kind)))
                alone.append(trace)
            cache = empty(model, kind)
            with hw.capture(model, **EVERYTHING) as trace:
                for ids, expected in zip(prompts, results, strict=True):
                    emptied(cache, way)
                    torch.testing.assert_close(read(ids, cache), expected, rtol=1e-4, atol=1e-5)
        assert trace.examples == 2
        for example, single in enumerate(alone):
            assert_same_records(trace, single, [example])


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 1.5, "use_cache": False}])
def test_a_patch_keeps_no_run_that_cannot_go_on(options: dict[str, Any]) -> None:
    """Here a cache that is used again, and a loop of `generate` that is over."""
    model = shared("llama")
    cache = empty(model, "static")
    with hw.patch(model, ACT):
        (session,) = instrument(model).sessions
        for seed in range(5):
            cache.reset()
            held = {} if options else with_cache(model, cache)
            generate(model, {"input_ids": random_ids(1, 6, seed=seed)}, **held, **options)
        assert len(session.tracker().runs) <= 2


# -- examples left out, copied, moved ------------------------------------------------------------------------------

OPERATIONS: dict[str, tuple[Callable[[Any], object], list[int]]] = {
    "select": (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
    "mask": (lambda cache: cache.batch_select_indices(torch.tensor([False, True])), [1]),
    "swap": (lambda cache: cache.batch_select_indices(torch.tensor([1, 0])), [1, 0]),
    "repeat": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
    "reorder": (lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])), [1, 1, 0]),
    "both": (
        lambda cache: (cache.batch_repeat_interleave(2), cache.batch_select_indices(torch.tensor([3, 0, 2]))),
        [1, 0, 1],
    ),
    "copies of one": (
        lambda cache: (cache.batch_select_indices(torch.tensor([1])), cache.batch_repeat_interleave(3)),
        [1, 1, 1],
    ),
}


def changed(model: Any, ids: torch.Tensor, new: torch.Tensor, operation: str | None) -> list[torch.Tensor]:
    """Logits of three steps behind a prompt whose examples are changed after the first step."""
    cache = empty(model, "dynamic")
    step(model, ids, cache)
    step(model, new[:, :1], cache)
    rows = slice(None)
    if operation is not None:
        act, rows = OPERATIONS[operation]
        act(cache)
    return [step(model, new[rows, at : at + 1], cache)[:, -1] for at in (1, 2)]


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_records_follow_the_examples_of_a_cache(name: str, operation: str) -> None:
    model, ids, new = shared(name), random_ids(2, 6, seed=4), random_ids(2, 3, seed=6)
    expected = changed(model, ids, new, operation)
    with hw.capture(model, **EVERYTHING) as trace:
        logits = changed(model, ids, new, operation)
    torch.testing.assert_close(logits, expected, **CLOSE)
    rows = OPERATIONS[operation][1]
    with hw.capture(model, **EVERYTHING) as whole:
        changed(model, ids[rows], new[rows], None)
    assert trace.examples == len(rows)
    assert torch.equal(trace.layout.axes["text"].ids, torch.cat([ids, new], 1)[rows])
    assert_same_records(trace, whole)


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize(("operation", "patch"), crossed(OPERATIONS, PATCHES, list(OPERATIONS)))
def test_a_fix_follows_the_examples_of_a_cache(name: str, operation: str, patch: str) -> None:
    model, ids, new = shared(name), random_ids(2, 6, seed=4), random_ids(2, 3, seed=6)
    rows = OPERATIONS[operation][1]
    with hw.patch(model, PATCHES[patch]):
        expected = changed(model, ids[rows], new[rows], None)
        logits = changed(model, ids, new, operation)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("operation", "mine"), crossed(OPERATIONS, [0, 1], list(OPERATIONS)))
def test_a_patch_of_some_examples_follows_them(operation: str, mine: int) -> None:
    model, ids, new = shared("llama"), random_ids(2, 6, seed=4), random_ids(2, 3, seed=6)
    rows = OPERATIONS[operation][1]
    plain = changed(model, ids, new, operation)
    with hw.patch(model, PATCHES["scale"]):
        patched = changed(model, ids, new, operation)
    with hw.patch(model, PATCHES["scale"], examples=[mine]):
        logits = changed(model, ids, new, operation)
    for own, before, after in zip(logits, plain, patched, strict=True):
        expected = torch.stack([(after if row == mine else before)[at] for at, row in enumerate(rows)])
        torch.testing.assert_close(own, expected, **CLOSE)


@pytest.mark.parametrize("name", telling(["bart", "t5", "marian"], ["bart"]))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_encoder_follows_the_examples_of_a_cache(name: str, operation: str) -> None:
    model, sources, new = shared(name), random_ids(2, 6, seed=4), random_ids(2, 3, seed=6)
    act, rows = OPERATIONS[operation]

    def translate(ids: torch.Tensor, words: torch.Tensor, chosen: list[int] | None) -> None:
        cache = EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))
        given = {"input_ids": ids, "decoder_input_ids": words[:, :2]}
        output = forward(model, given, **with_cache(model, cache), use_cache=True)
        states = (output.encoder_last_hidden_state,)
        if chosen is not None:
            act(cache)
            states, words = (states[0][chosen],), words[chosen]
        given = {"encoder_outputs": states, "decoder_input_ids": words[:, 2:]}
        forward(model, given, **with_cache(model, cache), use_cache=True)

    with hw.capture(model, **EVERYTHING) as trace:
        translate(sources, new, rows)
    with hw.capture(model, **EVERYTHING) as whole:
        translate(sources[rows], new[rows], None)
    assert {tower: len(axis.roles) for tower, axis in trace.layout.axes.items()} == {
        "encoder": len(rows),
        "decoder": len(rows),
    }
    assert_same_records(trace, whole)


# -- rolled back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", telling((*DECODERS, "bart", "t5", "whisper"), (*FEW, "t5")))
@pytest.mark.parametrize("way", ["lookup", "assistant"])
def test_what_is_recorded_of_drafts_is_what_one_forward_on_the_returned_ids_gives(
    name: str, way: str
) -> None:
    model = shared(name)
    inputs = {field: value[:1] for field, value in prompt(name).items()}
    if "input_ids" in inputs:
        inputs["input_ids"] = torch.cat([inputs["input_ids"][:, :6]] * 3, 1)
    options: dict[str, Any] = {"prompt_lookup_num_tokens": 4}
    if way == "assistant":
        options = {"assistant_model": assistant(name, model)}
    with hw.capture(model, **EVERYTHING) as trace:
        ids = generate(model, inputs, **options)
    whole = complete(model, inputs, ids, **EVERYTHING)
    assert_same_records(trace, whole)
    for tower, axis in trace.layout.axes.items():
        assert axis.roles.shape == whole.layout.axes[tower].roles.shape


def assistant(name: str, model: Any) -> Any:
    """A model that drafts what the other one would write but for some words."""
    drafting = ARCHITECTURES[name].build()
    with torch.no_grad():
        head = drafting.get_output_embeddings()
        head.weight = torch.nn.Parameter(
            head.weight + 0.3 * head.weight.std() * torch.randn_like(head.weight)
        )
    return drafting


def test_a_table_of_keys_has_no_key_that_was_rolled_back() -> None:
    model = shared("llama")
    inputs = {"input_ids": torch.cat([random_ids(1, 6)] * 3, 1)}
    with hw.capture(model, **EVERYTHING) as trace:
        ids = generate(model, inputs, prompt_lookup_num_tokens=4)
    frame = trace.to_frame("key")
    assert sorted(frame["position"].unique()) == list(range(ids.shape[1] - 1))
    assert frame["role"].notna().all()


# -- guidance without a cache --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize("patch", PATCHES)
def test_two_branches_without_a_cache_write_what_they_write_with_one(name: str, patch: str) -> None:
    model, inputs = shared(name), {"input_ids": random_ids(1, 6, seed=4)}
    with hw.patch(model, PATCHES[patch]):
        written = [
            generate(model, inputs, guidance_scale=1.5, use_cache=cached, max_new_tokens=8).tolist()
            for cached in (True, False)
        ]
    assert written[0] == written[1]


def test_the_prompt_of_neither_branch_grows() -> None:
    model, seen = shared("llama"), []

    class Watch:
        def edit(self, pattern: torch.Tensor, site: hw.Site, context: Any) -> torch.Tensor:
            if site.layer == 0:
                seen.append((context.prompt_length, pattern.shape[-1]))
            return pattern

    with hw.patch(model, Watch()):
        generate(model, {"input_ids": random_ids(1, 6)}, guidance_scale=1.5, use_cache=False)
    assert {extent for extent, _ in seen[::2]} == {6}
    assert {extent for extent, _ in seen[1::2]} == {1}


# -- cropped into the prompt ---------------------------------------------------------------------------------------


def cropped(model: Any, pieces: list[int], back: int, new: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """A prompt of six words in pieces, of which `back` are cropped; then other words. Logits of the last piece."""
    cache, ids = empty(model, "dynamic"), random_ids(2, 6, seed=4)
    for part in ids.split(pieces, 1):
        step(model, part, cache)
    cache.crop(-back)
    return [step(model, part, cache) for part in new.split(sizes, 1)][-1]


@pytest.mark.parametrize("name", telling(DECODERS, FEW))
@pytest.mark.parametrize("sizes", [[1, 1, 1], [3], [2, 1]])
def test_a_prompt_that_is_cropped_goes_on_as_one_example(name: str, sizes: list[int]) -> None:
    model, new = shared(name), random_ids(2, 3, seed=6)
    final = torch.cat([random_ids(2, 6, seed=4)[:, :3], new], 1)
    amid = EVERYTHING | {"stats": False}
    for pieces, options in (([3, 3], EVERYTHING), ([6], amid)):
        with hw.capture(model, **options) as trace:
            cropped(model, pieces, 3, new, sizes)
        with hw.capture(model, **options) as whole:
            forward(model, {"input_ids": final}, use_cache=False)
        assert trace.examples == 2
        assert torch.equal(trace.layout.axes["text"].ids, final)
        assert any("3 positions of prompts were read and then cropped" in text for text in trace.warnings)
        assert_same_records(trace, whole)


def test_sums_over_rows_that_were_cropped_in_part_are_refused(llama: Any) -> None:
    with pytest.raises(hw.CaptureError, match="amid positions that were read in one call"), hw.capture(llama):
        cropped(llama, [6], 3, random_ids(2, 3), [3])


@pytest.mark.parametrize("patch", ["running", "off", "full"])
def test_a_fix_that_remembers_a_prompt_refuses_one_that_is_cropped(llama: Any, patch: str) -> None:
    with (
        hw.patch(llama, PATCHES[patch]),
        pytest.raises(hw.FixError, match="cropped into the prompt, and a fix remembers"),
    ):
        cropped(llama, [6], 3, random_ids(2, 3), [3])


def test_a_fix_that_remembers_nothing_goes_on_behind_a_cropped_prompt(llama: Any) -> None:
    new = random_ids(2, 3, seed=6)
    with hw.patch(llama, PATCHES["scale"]):
        logits = cropped(llama, [6], 3, new, [3])
        final = torch.cat([random_ids(2, 6, seed=4)[:, :3], new], 1)
        whole = first(forward(llama, {"input_ids": final}, use_cache=False))
    torch.testing.assert_close(logits, whole[:, 3:], **CLOSE)


def test_every_call_of_generate_adds_its_example_to_prompts_that_begin_alike(llama: Any) -> None:
    """The rest of the later prompts stands behind positions that are `cached`."""
    start, cache = random_ids(1, 5, seed=4), empty(llama, "dynamic")
    prompts = [torch.cat([start, random_ids(1, 3, seed=seed)], 1) for seed in (5, 6)]
    with hw.capture(llama, maps=True) as trace:
        step(llama, start, cache)
        for ids in prompts:
            generate(llama, {"input_ids": ids}, **with_cache(llama, cache))
            cache.crop(5 - cache.get_seq_length())
    assert trace.examples == 2
    assert bool((trace.layout.axes["text"].roles[1, :5] == ROLES.index("cached")).all())
    assert not any("cropped" in text for text in trace.warnings)
