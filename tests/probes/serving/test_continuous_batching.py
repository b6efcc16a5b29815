"""Continuous batching under patches: every request's tokens are those of `generate`, patched or plain as it began."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

import headwise as hw
from headwise.fixes.patching import Handle
from headwise.testing.inputs import random_ids
from tests.kit.fixes import FIXES
from tests.tiny import ARCHITECTURES
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEW = 8
PROMPTS = [random_ids(1, length, seed=length)[0].tolist() for length in (5, 9, 12, 7)]
SCALE = hw.fixes.ScaleHeads(heads=((0, 1), (1, 3)), factor=0.0)
MASK = hw.fixes.MaskKeys(keys=(1, 2))
OPTIONS = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0)
CASES = [
    pytest.param("llama", "sdpa"),
    *(
        pytest.param(name, kind, marks=pytest.mark.slow)
        for name, kind in (
            ("llama", "eager"),
            ("mistral", "sdpa"),
            ("gemma2", "eager"),
            ("gpt_oss", "eager"),
            ("qwen3", "sdpa"),
        )
    ),
]


def sizes() -> ContinuousBatchingConfig:
    """So little room that requests wait for one another and prompts come in pieces."""
    return ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=16, page_size=8)


def one_by_one(model: PreTrainedModel, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    """What `generate` writes."""
    generate: Any = model.generate
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    return [generate(input_ids=torch.tensor([ids]), **options)[0, len(ids) :].tolist() for ids in prompts]


def together(model: PreTrainedModel) -> list[list[int]]:
    """What continuous batching writes."""
    batch: Any = model.generate_batch
    found = batch(PROMPTS, generation_config=OPTIONS, continuous_batching_config=sizes())
    return [found[name].generated_tokens for name in sorted(found, key=lambda name: int(name.split("_")[1]))]


@contextmanager
def manager(model: PreTrainedModel) -> Iterator[Any]:
    """A running manager."""
    make: Any = model.init_continuous_batching
    made = make(generation_config=OPTIONS, continuous_batching_config=sizes())
    made.start()
    try:
        yield made
    finally:
        made.stop(block=True)


def ask(running: Any, prompt: list[int]) -> list[int]:
    """The reply to one request."""
    name = running.add_request(prompt, max_new_tokens=NEW)
    return next(running.request_id_iter(name)).generated_tokens


@pytest.mark.parametrize(("architecture", "kind"), CASES)
@pytest.mark.parametrize("fix", [pytest.param(SCALE, marks=pytest.mark.slow), MASK], ids=["scale", "edit"])
def test_tokens_are_those_of_generate(architecture: str, kind: str, fix: Any) -> None:
    model = ARCHITECTURES[architecture].build(kind)
    before = snapshot(model)
    plain = one_by_one(model)
    with hw.patch(model, fix):
        patched = one_by_one(model)
        assert together(model) == patched != plain
    assert together(model) == plain
    assert snapshot(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_a_manager_made_before_a_patch_and_one_that_outlives_it(kind: str) -> None:
    model = ARCHITECTURES["llama"].build(kind)
    before = snapshot(model)
    plain = one_by_one(model)
    with hw.patch(model, SCALE):
        patched = one_by_one(model)
    with manager(model) as running:
        assert ask(running, PROMPTS[0]) == plain[0]
        with hw.patch(model, SCALE, check=False) as handle:
            assert ask(running, PROMPTS[1]) == patched[1]
        assert ask(running, PROMPTS[2]) == plain[2]
        settled(handle)
    assert snapshot(model) == before
    handle = hw.patch(model, SCALE)
    with manager(model) as running:
        assert ask(running, PROMPTS[0]) == patched[0]
        handle.remove()
        names = [
            running.add_request(prompt, max_new_tokens=NEW) for prompt in PROMPTS
        ]  # side by side, masked
        assert replies(running, names) == plain
        settled(handle)
    assert snapshot(model) == before


def replies(running: Any, names: list[str]) -> list[list[int]]:
    """The replies to several requests."""
    found: dict[str, list[int]] = {}
    while len(found) < len(names):
        result = running.get_result(timeout=10)
        assert result is not None
        assert result.error is None
        found[result.request_id] = result.generated_tokens
    return [found[name] for name in names]


def settled(handle: Handle) -> None:
    """Waits until the last request of a patch has ended."""
    for _ in range(100):
        if handle.state == "removed":
            return
        time.sleep(0.02)
    raise AssertionError(handle)


def test_requests_under_way_end_as_they_began() -> None:
    model = ARCHITECTURES["llama"].build()
    before = snapshot(model)
    plain = one_by_one(model)
    with hw.patch(model, SCALE):
        patched = one_by_one(model)
    with manager(model) as running:
        running.add_request(PROMPTS[0], request_id="first", max_new_tokens=NEW, streaming=True)
        assert running.get_result(timeout=10).generated_tokens  # its first token is there
        handle = hw.patch(model, SCALE, check=False)
        running.add_request(PROMPTS[1], request_id="second", max_new_tokens=NEW, streaming=True)
        told: dict[str, list[int]] = {"first": [], "second": []}
        removed = False
        while not all(len(tokens) == NEW for tokens in told.values()):
            result = running.get_result(timeout=10)
            told[result.request_id] = list(result.generated_tokens)
            if told["second"] and not removed:
                handle.remove()
                removed = True
        assert told == {"first": plain[0], "second": patched[1]}
        settled(handle)
    assert snapshot(model) == before


@pytest.mark.parametrize("fix", ["act", "set_rows"])
def test_fixes_that_need_the_prompt_are_refused_when_the_manager_is_made(fix: str) -> None:
    model = ARCHITECTURES["llama"].build()
    before = snapshot(model)
    with (
        hw.patch(model, FIXES[fix](0)),
        pytest.raises(hw.FixError, match="cannot act in continuous batching"),
    ):
        together(model)
    assert snapshot(model) == before


def test_captures_and_patches_of_examples_are_refused() -> None:
    model = ARCHITECTURES["llama"].build()
    with pytest.raises(hw.CaptureError, match="cannot be captured"), hw.capture(model):
        together(model)
    with hw.patch(model, SCALE, examples=[0]), pytest.raises(hw.FixError, match="no meaning"):
        together(model)


def test_a_fix_that_fails_in_a_request_fails_it_and_leaves_the_model_whole() -> None:
    model = ARCHITECTURES["llama"].build()
    before = snapshot(model)
    with manager(model) as running:
        assert ask(running, PROMPTS[0])
        with hw.patch(model, FIXES["act"](0), check=False) as handle:
            name = running.add_request(PROMPTS[1], max_new_tokens=NEW)
            result = next(iter(running))
            assert result.request_id == name
            assert "continuous batching" in result.error
        settled(handle)
    assert snapshot(model) == before


def apart(**room: Any) -> ContinuousBatchingConfig:
    """Room in which no request sees what another one has cached."""
    return ContinuousBatchingConfig(
        **{"num_blocks": 16, "max_batch_tokens": 16, "page_size": 8, **room}, allow_block_sharing=False
    )


def made(model: PreTrainedModel, room: ContinuousBatchingConfig) -> Any:
    """A manager that has not started."""
    make: Any = model.init_continuous_batching
    return make(generation_config=OPTIONS, continuous_batching_config=room)


def both(model: PreTrainedModel) -> tuple[list[list[int]], list[list[int]]]:
    """What `generate` writes without and with a fix."""
    plain = one_by_one(model)
    with hw.patch(model, SCALE):
        return plain, one_by_one(model)


def named(running: Any, name: str, prompt: list[int]) -> list[int]:
    """The reply to a request by a name that may have been used before."""
    running.add_request(prompt, request_id=name, max_new_tokens=NEW)
    return next(running.request_id_iter(name)).generated_tokens


@pytest.mark.slow
def test_a_request_by_the_name_of_one_that_has_ended_is_another_one() -> None:
    model = ARCHITECTURES["llama"].build()
    before = snapshot(model)
    plain, patched = both(model)
    with hw.patch(model, hw.fixes.ScaleHeads(heads=((0, 0),), factor=1 + 1e-7)):  # stays
        running = made(model, apart())
        running.start()
        try:
            for number in (0, 1, 0):
                assert named(running, "again", PROMPTS[number]) == plain[number]
                with hw.patch(model, SCALE) as handle:
                    assert named(running, "again", PROMPTS[number]) == patched[number]
                settled(handle)
        finally:
            running.stop(block=True)
    assert snapshot(model) == before


@pytest.mark.slow
def test_requests_that_are_put_off_for_want_of_room_end_as_they_began() -> None:
    model, long = ARCHITECTURES["llama"].build(), 24
    before = snapshot(model)
    options = {"max_new_tokens": long, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def alone_of(prompt: list[int]) -> list[int]:
        generate: Any = model.generate
        return generate(input_ids=torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()

    plain = [alone_of(prompt) for prompt in PROMPTS]
    with hw.patch(model, SCALE):
        patched = [alone_of(prompt) for prompt in PROMPTS]
    running = made(model, apart(num_blocks=12, max_batch_tokens=32))
    running.start()
    try:
        handle = hw.patch(model, SCALE, check=False)
        names = [running.add_request(p, max_new_tokens=long, streaming=True) for p in PROMPTS]
        told: dict[str, list[int]] = {}
        prompts: dict[str, int] = {}
        while not all(len(told.get(name, ())) == long for name in names):
            result = running.get_result(timeout=10)
            assert result is not None
            told[result.request_id] = list(result.generated_tokens)
            prompts[result.request_id] = len(result.prompt_ids)
            if len(told) == len(names) and handle.active:
                handle.remove()
        settled(handle)
        assert [told[name] for name in names] == patched
        handle = hw.patch(model, hw.fixes.ScaleHeads(heads=((0, 0),), factor=1 + 1e-7), check=False)
        names = [running.add_request(p, max_new_tokens=long, streaming=True) for p in PROMPTS]
        told, inner = {}, None
        while not all(len(told.get(name, ())) == long for name in names):
            result = running.get_result(timeout=10)
            assert result is not None
            told[result.request_id] = list(result.generated_tokens)
            if len(told) == len(names) and inner is None:
                inner = hw.patch(model, SCALE, check=False)
        assert [told[name] for name in names] == plain
        assert inner is not None
        inner.remove()
        handle.remove()
        settled(inner)
        settled(handle)
    finally:
        running.stop(block=True)
    assert snapshot(model) == before


@pytest.mark.parametrize(("architecture", "kind"), CASES)
@pytest.mark.parametrize("asked", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["asked", "idle"])
@pytest.mark.parametrize("started", ["before", pytest.param("while", marks=pytest.mark.slow)])
def test_a_plain_manager_that_starts_as_a_patch_comes_masks_its_requests(
    architecture: str, kind: str, asked: bool, started: str
) -> None:
    model = ARCHITECTURES[architecture].build(kind)
    plain, patched = both(model)
    running = made(model, apart(num_blocks=64, max_batch_tokens=64))
    try:
        if started == "before":
            running.start()
        with hw.patch(model, SCALE, check=False) as handle:
            if started == "while":
                running.start()
            if asked:
                names = [running.add_request(p, max_new_tokens=NEW) for p in PROMPTS]
                assert replies(running, names) == patched
        names = [running.add_request(p, max_new_tokens=NEW) for p in PROMPTS]
        assert replies(running, names) == plain
        settled(handle)
    finally:
        running.stop(block=True)


@pytest.mark.slow
def test_a_patch_of_another_thread_does_not_keep_a_manager_from_being_made() -> None:
    model = ARCHITECTURES["llama"].build()
    plain, _ = both(model)
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with hw.patch(model, FIXES["act"](0), scope="thread"):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(30)
        assert together(model) == plain
    finally:
        leave.set()
        thread.join()


def test_a_manager_that_replays_cuda_graphs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ARCHITECTURES["llama"].build()
    before = snapshot(model)
    monkeypatch.setattr(ContinuousBatchingConfig, "cuda_graph_booleans", (True, False))
    with hw.patch(model, SCALE), pytest.raises(hw.UnsupportedModel, match="CUDA graph"):
        made(model, sizes())
    running = made(model, sizes())
    with monkeypatch.context() as plainly:
        plainly.setattr(ContinuousBatchingConfig, "cuda_graph_booleans", (False, False))
        running.start()
        while running.batch_processor is None:
            time.sleep(0.001)
    try:
        with pytest.raises(hw.UnsupportedModel, match="CUDA graph"):
            hw.patch(model, SCALE, check=False)
        assert snapshot(model) == before
    finally:
        running.stop(block=True)
