"""A prompt is patched as a whole or not at all, whatever other threads attach and remove meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

import headwise as hw
from headwise.probes.engine.instrumentation import instrument
from headwise.testing.inputs import alone
from tests.kit.fixes import FIXES, models_of
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GREEDY: dict[str, Any] = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
PATIENCE = 30.0
WAYS: dict[str, dict[str, Any]] = {
    "generate": {},
    "static cache": {"cache_implementation": "static", "disable_compile": True},
    "no cache": {"use_cache": False},
    "beams": {"num_beams": 3},
}
Use = Callable[["PreTrainedModel", dict[str, Any], Callable[[], None]], torch.Tensor]


class Between(StoppingCriteria):
    """Calls something after every token."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        self.tick()
        return torch.zeros(len(input_ids), dtype=torch.bool)


def generated(
    model: PreTrainedModel, inputs: dict[str, Any], tick: Callable[[], None], **options: Any
) -> Any:
    """The logits of every token that `generate` writes; between two tokens `tick` is called."""
    given = {name: value for name, value in inputs.items() if name != "position_ids"}
    told = {"return_dict_in_generate": True, "output_logits": True}
    stop = StoppingCriteriaList([Between(tick)])
    generate: Any = model.generate
    out = generate(**given, **{**GREEDY, **options}, **told, stopping_criteria=stop)
    return torch.stack(out.logits)


def looped(model: PreTrainedModel, inputs: dict[str, Any], tick: Callable[[], None]) -> torch.Tensor:
    """The same, written by hand."""
    logits, cache, given = [], None, {k: v for k, v in inputs.items() if k != "position_ids"}
    with torch.no_grad():
        for _ in range(6):
            out = model(**given, **with_cache(model, cache))
            cache = cache_of(out)
            logits.append(out.logits[:, -1])
            given = {"input_ids": logits[-1].argmax(-1, keepdim=True)}
            tick()
    return torch.stack(logits)


def use_of(way: str) -> Use:
    """A way of decoding by its name."""
    if way == "loop":
        return looped
    return lambda model, inputs, tick: generated(model, inputs, tick, **WAYS[way])


class Request:
    """Decodes on a thread of its own, and stops after the third token until it is told to go on."""

    def __init__(self, use: Use, model: PreTrainedModel, inputs: dict[str, Any]) -> None:
        self._arrived, self._go = threading.Event(), threading.Event()
        self._ticks = 0
        self.result: Any = None

        def work() -> None:
            try:
                self.result = use(model, inputs, self._tick)
            except BaseException as error:
                self.result = error
            finally:
                self._arrived.set()

        self._thread = threading.Thread(target=work)
        self._thread.start()
        assert self._arrived.wait(PATIENCE)

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks == 3:
            self._arrived.set()
            assert self._go.wait(PATIENCE)

    def finish(self) -> torch.Tensor:
        """Lets it go on to its end; what it decoded."""
        self._go.set()
        self._thread.join(PATIENCE)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def nothing() -> None:
    """No one is told."""


def case(fix: str, way: str) -> tuple[PreTrainedModel, dict[str, Any], Any, Use, torch.Tensor, torch.Tensor]:
    """A model, inputs, a fix, a way of decoding, and what comes of it without and with the fix."""
    name = models_of(fix)[-1] if fix in ("var", "vhr") else "llama"
    model, inputs, use = ARCHITECTURES[name].build(), alone(0, name), use_of(way)
    made = FIXES[fix](0)
    plain = use(model, inputs, nothing)
    with hw.patch(model, made):
        patched = use(model, inputs, nothing)
    assert not torch.equal(plain, patched)
    return model, inputs, made, use, plain, patched


QUICK = [
    ("act", "generate"),
    ("act", "loop"),
    ("vhr", "generate"),
    ("scale_heads", "beams"),
    ("act", "no cache"),
]
GRID = [
    pytest.param(fix, way, marks=[] if (fix, way) in QUICK else pytest.mark.slow)
    for fix in sorted(FIXES)
    if fix != "replace"
    for way in (*WAYS, "loop")
    if not (fix in ("var", "vhr") and way == "static cache")
]


@pytest.mark.parametrize(("fix", "way"), GRID)
class TestUnderWay:
    def test_what_began_before_a_patch_ends_without_it(self, fix: str, way: str) -> None:
        model, inputs, made, use, plain, patched = case(fix, way)
        before = snapshot(model)
        request = Request(use, model, inputs)
        with hw.patch(model, made) as handle:
            assert torch.equal(use(model, inputs, nothing), patched)  # this thread's own
            assert torch.equal(request.finish(), plain)
            later = Request(use, model, inputs)
            assert torch.equal(later.finish(), patched)
        assert handle.state == "removed"
        assert snapshot(model) == before

    def test_what_began_with_a_patch_ends_with_it(self, fix: str, way: str) -> None:
        model, inputs, made, use, plain, patched = case(fix, way)
        before = snapshot(model)
        handle = hw.patch(model, made)
        request = Request(use, model, inputs)
        handle.remove()
        assert (handle.state, handle.active) == ("finishing", False)
        assert "finishing" in repr(handle)
        assert torch.equal(use(model, inputs, nothing), plain)
        assert torch.equal(Request(use, model, inputs).finish(), plain)
        assert torch.equal(request.finish(), patched)
        assert handle.state == "removed"
        assert snapshot(model) == before


@pytest.mark.parametrize("way", ["generate", "loop"])
def test_a_request_that_fails_leaves_nothing_behind(way: str) -> None:
    model, inputs, made, use, plain, _ = case("act", way)
    before = snapshot(model)

    class Failing:
        def __init__(self) -> None:
            self.left = 3

        def __call__(self) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    handle = hw.patch(model, made)
    request = Request(lambda m, i, tick: use(m, i, chain(tick, Failing())), model, inputs)
    handle.remove()
    with pytest.raises(KeyboardInterrupt):
        request.finish()
    request.result = None
    assert handle.state == "removed"
    assert snapshot(model) == before
    assert torch.equal(use(model, inputs, nothing), plain)


def test_a_forward_that_fails_while_its_patch_leaves_is_the_last() -> None:
    model, inputs, made, use, plain, _ = case("act", "loop")
    before = snapshot(model)
    layer: Any = model.get_submodule("model.layers.1")
    handle = hw.patch(model, made)
    request: Request | None = None

    def fail(*_: Any) -> None:
        assert request is None or threading.current_thread() is not threading.main_thread()
        raise ValueError("out of memory")

    request = Request(use, model, inputs)
    handle.remove()
    broken = layer.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="out of memory"):
        request.finish()
    broken.remove()
    request.result = None
    for _ in range(100):  # without anyone asking the handle
        if snapshot(model) == before:
            break
        threading.Event().wait(0.05)
    assert snapshot(model) == before
    assert torch.equal(use(model, inputs, nothing), plain)


def chain(*calls: Callable[[], None]) -> Callable[[], None]:
    """One call after the other."""

    def all_of_them() -> None:
        for call in calls:
            call()

    return all_of_them


def test_a_forward_under_way_when_the_first_patch_comes_is_left_alone() -> None:
    model, inputs, made, _, _, _ = case("scale_heads", "loop")
    embedding: Any = model.get_input_embeddings()
    with torch.no_grad():
        plain = model(**inputs).logits

    def use(model: PreTrainedModel, inputs: dict[str, Any], tick: Callable[[], None]) -> torch.Tensor:
        hook = embedding.register_forward_hook(lambda *_: chain(tick, tick, tick)())
        try:
            with torch.no_grad():
                return model(**inputs).logits
        finally:
            hook.remove()

    request = Request(use, model, inputs)
    with hw.patch(model, made, check=False):
        assert torch.equal(request.finish(), plain)


def test_a_thread_may_patch_within_its_own_prompt() -> None:
    model, inputs, made, _, plain, patched = case("scale_heads", "generate")
    handles = []

    def first_token() -> None:
        if not handles:
            handles.append(hw.patch(model, made))

    changed = generated(model, inputs, first_token)
    handles[0].remove()
    assert torch.equal(changed[0], plain[0])
    assert not torch.equal(changed[1:], plain[1:])
    with hw.patch(model, made) as handle:
        changed = generated(model, inputs, handle.remove)
        assert handle.state == "removed"
    assert torch.equal(changed[0], patched[0])
    assert not torch.equal(changed[1:], patched[1:])


@pytest.mark.parametrize("changes", [6, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fixes", [("scale_heads", "act"), ("scale_heads", "var", "vhr")])
def test_patches_come_and_go_while_four_threads_generate(fixes: tuple[str, ...], changes: int) -> None:
    name = models_of(fixes[-1])[-1] if "vhr" in fixes else "llama"
    model, inputs = ARCHITECTURES[name].build(), alone(0, name)
    given = {key: value for key, value in inputs.items() if key != "position_ids"}
    made = [FIXES[fix](0) for fix in fixes]

    def reply() -> torch.Tensor:
        generate: Any = model.generate
        told = {"return_dict_in_generate": True, "output_logits": True}
        return torch.stack(generate(**given, **GREEDY, **told).logits)

    right = [reply()]
    before = snapshot(model)
    for fix in made:
        with hw.patch(model, fix):
            right.append(reply())
    replies: list[torch.Tensor] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                replies.append(reply())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(changes):
        count = len(replies)
        with hw.patch(model, made[number % len(made)]):
            while len(replies) < count + 1 + number % 5 and not errors:
                stop.wait(0.001)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    found = [next((i for i, one in enumerate(right) if torch.equal(one, other)), None) for other in replies]
    assert None not in found
    assert len(set(found)) > 1
    assert instrument(model).sessions == ()
    assert snapshot(model) == before


def test_nested_patches_and_a_capture_beside_requests_of_others() -> None:
    model, inputs, made, use, plain, patched = case("scale_heads", "generate")
    other = hw.fixes.MaskKeys(keys=(1,))
    with hw.patch(model, made), hw.patch(model, other):
        both = use(model, inputs, nothing)
    before = snapshot(model)
    outer = hw.patch(model, made)
    one = Request(use, model, inputs)
    inner = hw.patch(model, other)
    two = Request(use, model, inputs)
    outer.remove()
    three = Request(use, model, inputs)
    with hw.capture(model, maps=True) as trace, torch.no_grad():
        model(input_ids=inputs["input_ids"])
    assert all(bool((pattern[..., 1] == 0).all()) for pattern in trace.maps.values())  # the inner one alone
    inner.remove()
    assert [outer.state, inner.state] == ["finishing", "finishing"]
    assert torch.equal(three.finish(), alone_under(model, other, use, inputs))
    assert torch.equal(two.finish(), both)
    assert [outer.state, inner.state] == ["finishing", "removed"]
    assert torch.equal(one.finish(), patched)
    assert snapshot(model) == before
    assert torch.equal(use(model, inputs, nothing), plain)


def alone_under(model: PreTrainedModel, fix: Any, use: Use, inputs: dict[str, Any]) -> torch.Tensor:
    """What comes of a way of decoding under one fix, on this thread."""
    with hw.patch(model, fix, scope="thread"):
        return use(model, inputs, nothing)


class TestScope:
    @pytest.fixture
    def parts(self) -> Any:
        return case("act", "generate")

    def test_an_unknown_scope_is_refused(self, llama: PreTrainedModel) -> None:
        with pytest.raises(hw.InputError, match='"model" or "thread"'):
            hw.patch(llama, FIXES["act"](0), scope="request")  # type: ignore[arg-type]

    def test_a_pool_patches_some_requests_and_not_the_others(self, parts: Any) -> None:
        model, inputs, made, use, plain, patched = parts
        before = snapshot(model)

        def work(number: int) -> bool:
            if number % 2:
                return torch.equal(use(model, inputs, nothing), plain)
            with hw.patch(model, made, scope="thread"):
                return torch.equal(use(model, inputs, nothing), patched)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(12)))
        assert snapshot(model) == before

    def test_tasks_of_one_event_loop_do_not_mix(self, parts: Any) -> None:
        model, inputs, made, use, plain, patched = parts

        async def request(expected: torch.Tensor, fix: Any) -> bool:
            with hw.patch(model, fix, scope="thread") if fix else none():
                await asyncio.sleep(0)
                inside = await asyncio.to_thread(use, model, inputs, nothing)
                here = use(model, inputs, nothing)
            return torch.equal(inside, expected) and torch.equal(here, expected)

        async def server() -> list[bool]:
            return await asyncio.gather(
                *(request(patched, made) if n % 2 else request(plain, None) for n in range(6))
            )

        assert all(asyncio.run(server()))

    def test_a_thread_started_inside_is_another_one_unless_it_gets_the_context(self, parts: Any) -> None:
        model, inputs, made, use, plain, patched = parts
        with hw.patch(model, made, scope="thread") as handle, ThreadPoolExecutor(1) as pool:
            assert "this thread" in repr(handle)
            assert torch.equal(pool.submit(use, model, inputs, nothing).result(), plain)
            here = contextvars.copy_context()
            assert torch.equal(pool.submit(here.run, use, model, inputs, nothing).result(), patched)

    def test_a_request_that_was_given_up_ends_as_it_began(self, parts: Any) -> None:
        model, inputs, made, use, _, patched = parts
        before = snapshot(model)
        with hw.patch(model, made, scope="thread") as handle:
            here = contextvars.copy_context()
            request = Request(lambda *given: here.run(use, *given), model, inputs)
        assert handle.state == "finishing"
        assert torch.equal(request.finish(), patched)
        assert handle.state == "removed"
        assert snapshot(model) == before


@contextmanager
def none() -> Iterator[None]:
    """No patch."""
    yield
