"""After a capture or a patch, however it ended, the model is as before; nobody else notices it."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from benchmarks.common import peak_megabytes, reset_peak
from headwise import fixes
from headwise.testing.inputs import Inputs, first, forward
from tests.kit.edits import FirstKey, Identity
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import plain_tokens
from tests.tiny.snapshot import snapshot
from tests.tiny.telling import crossed, telling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise import Site

SOME = ("gpt2", "llama", "gemma2", "gpt_oss", "bert", "bart", "t5", "llava", "bloom")


def inputs_of(name: str) -> Inputs:
    return ARCHITECTURES[name].inputs["plain"]()


class Boom(Exception):
    """What a test's model or edit raises."""


class Raising:
    """An edit that fails."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def edit(self, pattern: torch.Tensor, site: Site, context: Any) -> torch.Tensor:
        raise self.error


@contextmanager
def failing_layer(model: PreTrainedModel, error: type[BaseException]) -> Iterator[None]:
    """The last linear layer raises while the block runs."""

    def fail(*_: object) -> None:
        raise error

    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    hook = last.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


WHERE = ("in the model", "in an edit", "in the block")


@pytest.mark.parametrize("name", telling(["llama", "bart", "llava", "bloom"], ("llama", "bart")))
@pytest.mark.parametrize(("where", "error"), crossed(WHERE, [Boom, KeyboardInterrupt], WHERE))
def test_after_an_exception_the_model_is_as_before(name: str, error: type[BaseException], where: str) -> None:
    model, inputs = ARCHITECTURES[name].build(), inputs_of(name)
    expected = first(forward(model, inputs))
    before = snapshot(model)

    traces = []

    def go_wrong() -> None:
        edit = Raising(error) if where == "in an edit" else Identity()
        with hw.capture(model, maps=True, residual=True) as trace, hw.patch(model, edit):
            traces.append(trace)
            with failing_layer(model, error) if where == "in the model" else nullcontext():
                forward(model, inputs)
            raise error

    with pytest.raises(error):
        go_wrong()
    assert snapshot(model) == before
    assert torch.equal(first(forward(model, inputs)), expected)
    with pytest.raises(hw.CaptureError, match="exception"):
        _ = traces[0].sites
    with hw.capture(model) as again:
        forward(model, inputs)
    assert again.sites


@pytest.mark.parametrize("name", SOME)
def test_captures_and_patches_leave_nothing_behind(name: str) -> None:
    model, inputs = ARCHITECTURES[name].build(), inputs_of(name)
    expected = first(forward(model, inputs))
    before = snapshot(model)
    with (
        hw.capture(model, maps=True, qkv=True, heads=True, residual=True),
        hw.patch(model, FirstKey()),
    ):
        forward(model, inputs)
    assert snapshot(model) == before
    handle = hw.patch(model, FirstKey())
    handle.remove()
    handle.remove()
    assert snapshot(model) == before
    assert torch.equal(first(forward(model, inputs)), expected)


def test_a_patch_and_a_capture_may_end_in_any_order() -> None:
    model, inputs = ARCHITECTURES["llama"].build(), inputs_of("llama")
    before = snapshot(model)
    handle = hw.patch(model, FirstKey())
    with hw.capture(model, maps=True) as edited:
        forward(model, inputs)
    with hw.capture(model, maps=True) as plain:
        handle.remove()
        forward(model, inputs)
    assert snapshot(model) == before
    assert edited.maps[edited.site(0)][..., 0].eq(1).all()
    assert not plain.maps[plain.site(0)][..., 0].eq(1).all()


def test_fixes_act_in_the_order_of_the_list() -> None:
    model, inputs = ARCHITECTURES["llama"].build(), inputs_of("llama")
    first_key, mask = FirstKey(), fixes.MaskKeys(keys=(3,))
    with hw.patch(model, [mask, first_key]), hw.capture(model, maps=True) as trace:
        forward(model, inputs)
    assert trace.maps[trace.site(0)][..., 0].eq(1).all()


def test_a_copy_of_an_attached_model_is_not_attached() -> None:
    model, inputs = ARCHITECTURES["llama"].build(), inputs_of("llama")
    expected = first(forward(model, inputs))
    with hw.patch(model, FirstKey()):
        twin = deepcopy(model)
        assert torch.equal(first(forward(twin, inputs)), expected)


def test_two_threads_with_two_models_do_not_mix() -> None:
    names = ("llama", "bart")
    alone = {}
    models = {name: ARCHITECTURES[name].build() for name in names}
    for name, model in models.items():
        with hw.capture(model, stats=True, maps=True) as trace:
            forward(model, inputs_of(name))
        alone[name] = trace
    start = threading.Barrier(len(names))
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(20):
                start.wait(timeout=60)
                with hw.capture(models[name], stats=True, maps=True) as trace, torch.no_grad():
                    models[name](**inputs_of(name))
                assert trace.sites == alone[name].sites
                for site in trace.sites:
                    assert torch.equal(trace.maps[site], alone[name].maps[site])
                    entropy = trace.records[site]["entropy"]
                    assert torch.equal(entropy, alone[name].records[site]["entropy"])
        except BaseException as error:
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_model_in_another_thread_never_notices_a_patch() -> None:
    patched, other = ARCHITECTURES["llama"].build(), ARCHITECTURES["llama"].build()
    inputs = inputs_of("llama")
    expected = first(forward(other, inputs))
    outputs: list[torch.Tensor] = []
    with hw.patch(patched, FirstKey()):
        thread = threading.Thread(target=lambda: outputs.append(first(forward(other, inputs))))
        thread.start()
        thread.join()
        assert torch.equal(first(forward(other, inputs)), expected)
    assert torch.equal(outputs[0], expected)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("options", [{"stats": True}, {"stats": False, "maps": True, "heads": True}], ids=str)
def test_memory_does_not_grow_over_fifty_captures(options: dict[str, bool]) -> None:
    model = ARCHITECTURES["gpt2"].build()
    inputs = plain_tokens(1, 60)

    def capture() -> None:
        with hw.capture(model, **options):
            forward(model, inputs)

    for _ in range(10):
        capture()
    gc.collect()
    reset_peak()
    capture()
    before = peak_megabytes()
    for _ in range(39):
        capture()
    assert peak_megabytes() - before < 5
