"""A patch of one thread follows the generator that opened it into every thread and context, and no further."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import alone
from tests.kit.fixes import FIXES, models_of
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.snapshot import snapshot
from tests.tiny.telling import crossed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 6
Next = Callable[[Iterator[torch.Tensor]], torch.Tensor]


def patched(model: PreTrainedModel, fix: Any) -> Any:
    """The patch of one thread; none without a fix."""
    return contextlib.nullcontext() if fix is None else hw.patch(model, fix, scope="thread")


def stream(
    model: PreTrainedModel, inputs: dict[str, Any], fix: Any, *, cached: bool = True
) -> Iterator[torch.Tensor]:
    """The logits of one token after the other."""
    given = {name: value for name, value in inputs.items() if name != "position_ids"}
    with patched(model, fix):
        cache, first = None, given
        for _ in range(TOKENS):
            with torch.no_grad():
                out = (
                    model(**given, **with_cache(model, cache)) if cached else model(**given, use_cache=False)
                )
            logits, cache = out.logits[:, -1], cache_of(out)
            following = logits.argmax(-1, keepdim=True)
            given = {"input_ids": following}
            if not cached:
                first = given = {"input_ids": torch.cat([first["input_ids"], following], 1)}
            yield logits


def in_a_new_context(stepped: Iterator[torch.Tensor]) -> torch.Tensor:
    """The next token, as an asyncio server takes it."""
    return contextvars.copy_context().run(next, stepped)


def on_a_new_thread(stepped: Iterator[torch.Tensor]) -> torch.Tensor:
    """The next token, as a server takes it with a pool of threads."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, next, stepped).result()


NEXT: dict[str, Next] = {"context": in_a_new_context, "thread": on_a_new_thread}
ROWS = [
    f"{name} {fix}"
    for fix in sorted(FIXES)
    if fix != "replace"
    for name in ("llama", "gpt2", "gemma2", "bloom", "gpt_oss", "qwen2_vl", "llava")
    if name in models_of(fix)
]


FEW = [row for row in ROWS if row.split()[0] in ("llama", "llava")]


@pytest.mark.parametrize(("row", "way"), crossed(ROWS, sorted(NEXT), FEW))
def test_a_stream_is_patched_as_a_whole_whoever_asks_for_the_next_token(row: str, way: str) -> None:
    name, fix = row.split()
    model, inputs, made = ARCHITECTURES[name].build(), alone(0, name), FIXES[fix](0)
    wanted, plain = list(stream(model, inputs, made)), list(stream(model, inputs, None))
    before = snapshot(model)  # transformers adds hooks of its own to some models when they run first
    assert not torch.equal(torch.stack(wanted), torch.stack(plain))
    with_fix, without = stream(model, inputs, made), stream(model, inputs, None)
    pairs = [(NEXT[way](with_fix), NEXT[way](without)) for _ in range(TOKENS)]
    assert all(torch.equal(found, right) for (found, _), right in zip(pairs, wanted, strict=True))
    assert all(torch.equal(found, right) for (_, found), right in zip(pairs, plain, strict=True))
    del with_fix, without
    for _ in range(100):  # what began on a thread that has gone ends with its cache
        if snapshot(model) == before:
            break
        threading.Event().wait(0.02)
    assert snapshot(model) == before


@pytest.fixture
def parts() -> tuple[PreTrainedModel, dict[str, Any], Any]:
    return ARCHITECTURES["llama"].build(), alone(0, "llama"), FIXES["scale_heads"](0)


def logits_of(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """Of one forward."""
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("way", sorted(NEXT))
def test_every_prompt_that_a_generator_begins_is_patched(parts: Any, way: str) -> None:
    model, inputs, fix = parts
    wanted = list(stream(model, inputs, fix, cached=False))
    stepped = stream(model, inputs, fix, cached=False)
    assert all(torch.equal(NEXT[way](stepped), right) for right in wanted)


def test_the_caller_of_a_generator_that_has_yielded_is_refused_and_free_when_it_is_closed(parts: Any) -> None:
    model, inputs, fix = parts
    before, plain = snapshot(model), logits_of(model, inputs)
    wanted = list(stream(model, inputs, fix))
    stepped = stream(model, inputs, fix)
    found = [next(stepped)]
    generate: Any = model.generate
    for use in (
        lambda: logits_of(model, inputs),
        lambda: generate(input_ids=inputs["input_ids"], max_new_tokens=2),
        lambda: next(stream(model, inputs, None)),
    ):
        with pytest.raises(hw.FixError, match=r"stands at a yield.*\(stream, line"):
            use()
    assert torch.equal(contextvars.Context().run(logits_of, model, inputs), plain)
    found += list(stepped)
    assert all(torch.equal(one, right) for one, right in zip(found, wanted, strict=True))
    assert torch.equal(logits_of(model, inputs), plain)
    abandoned = stream(model, inputs, fix)
    next(abandoned)
    del abandoned
    assert torch.equal(logits_of(model, inputs), plain)
    assert snapshot(model) == before


def test_an_async_generator_patches_what_it_awaits_and_not_its_caller(parts: Any) -> None:
    model, inputs, fix = parts
    before, plain = snapshot(model), logits_of(model, inputs)
    with hw.patch(model, fix):
        right = logits_of(model, inputs)

    async def replies() -> AsyncIterator[torch.Tensor]:
        with hw.patch(model, fix, scope="thread"):
            for _ in range(2):
                yield await asyncio.to_thread(logits_of, model, inputs)
                yield await asyncio.create_task(asyncio.to_thread(logits_of, model, inputs))
                yield logits_of(model, inputs)

    async def server() -> None:
        count = 0
        async for reply in replies():
            count += 1
            assert torch.equal(reply, right)
            with pytest.raises(hw.FixError, match="stands at a yield"):
                logits_of(model, inputs)
            other = contextvars.Context()
            assert torch.equal(await asyncio.create_task(elsewhere(), context=other), plain)
        assert count == 6
        assert torch.equal(logits_of(model, inputs), plain)

    async def elsewhere() -> torch.Tensor:
        return await asyncio.to_thread(logits_of, model, inputs)

    asyncio.run(server())
    assert snapshot(model) == before


def test_what_a_generator_hands_to_a_thread_is_patched_while_it_stands_at_a_yield(parts: Any) -> None:
    model, inputs, fix = parts
    with hw.patch(model, fix):
        right = logits_of(model, inputs)

    def replies() -> Iterator[Any]:
        with hw.patch(model, fix, scope="thread"):
            here = contextvars.copy_context()
            yield lambda: here.run(logits_of, model, inputs)

    for work in replies():
        with ThreadPoolExecutor(1) as pool:
            assert torch.equal(pool.submit(work).result(), right)


def test_a_context_manager_made_of_a_generator_is_for_its_block(parts: Any) -> None:
    model, inputs, fix = parts
    plain = logits_of(model, inputs)
    with hw.patch(model, fix):
        right = logits_of(model, inputs)

    @contextlib.contextmanager
    def fixed() -> Iterator[None]:
        with hw.patch(model, fix, scope="thread"):
            yield

    @contextlib.asynccontextmanager
    async def fixed_task() -> AsyncIterator[None]:
        with fixed():
            yield

    def replies() -> Iterator[torch.Tensor]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(fixed())
            for _ in range(3):
                yield logits_of(model, inputs)

    async def task() -> torch.Tensor:
        async with fixed_task():
            return logits_of(model, inputs)

    with fixed():
        assert torch.equal(logits_of(model, inputs), right)
    assert torch.equal(asyncio.run(task()), right)
    stepped = replies()
    assert all(torch.equal(in_a_new_context(stepped), right) for _ in range(3))
    assert torch.equal(logits_of(model, inputs), plain)


def test_a_capture_names_the_fixes_that_acted_on_what_it_saw(parts: Any) -> None:
    model, inputs, fix = parts
    entered, leave = threading.Event(), threading.Event()

    def named(*fixes: str, **options: Any) -> list[str]:
        with contextlib.ExitStack() as stack:
            for name in fixes:
                stack.enter_context(hw.patch(model, FIXES[name](0), **options))
            with hw.capture(model) as trace:
                logits_of(model, inputs)
        return kinds(trace)

    def kinds(trace: hw.Trace) -> list[str]:
        return [text.partition("(")[0] for text in trace.meta["patched"]]

    def work() -> None:
        with hw.patch(model, FIXES["act"](0), scope="thread"):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(30)
        assert named() == []  # another thread's
        assert named("scale_heads", "mask_keys") == ["ScaleHeads", "MaskKeys"]
        assert named("scale_heads", scope="thread") == ["ScaleHeads"]
        with hw.capture(model) as trace:
            logits_of(model, inputs)
            with hw.patch(model, fix):
                logits_of(model, inputs)
        assert kinds(trace) == ["ScaleHeads"]  # came within the block
        with hw.patch(model, fix) as handle, hw.capture(model) as trace:
            handle.remove()
            logits_of(model, inputs)
        assert trace.meta["patched"] == []  # left before
    finally:
        leave.set()
        thread.join()
