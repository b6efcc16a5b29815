"""A forward that is recorded as a CUDA graph is refused where headwise would be left out of its replays."""

from __future__ import annotations

import threading

import pytest
import torch

import headwise as hw
from headwise.testing.inputs import forward
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import plain_tokens
from tests.tiny.snapshot import snapshot

HALF = hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.5)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every forward looks as if its kernels went into a CUDA graph."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("use", ["capture", "patch"])
@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_an_attached_model_is_not_recorded(name: str, use: str, recording: pytest.MonkeyPatch) -> None:
    model = ARCHITECTURES[name].build()
    before = snapshot(model)
    attached = hw.capture(model, check=False) if use == "capture" else hw.patch(model, HALF, check=False)
    with pytest.raises(hw.CaptureError, match="CUDA graph"), attached:
        forward(model, plain_tokens())
    assert snapshot(model) == before
    forward(model, plain_tokens())
    recording.undo()
    with hw.patch(model, HALF):
        forward(model, plain_tokens())


def test_a_patch_of_another_thread_does_not_count(recording: pytest.MonkeyPatch) -> None:
    model = ARCHITECTURES["llama"].build()
    plain = forward(model, plain_tokens()).logits
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with hw.patch(model, HALF, scope="thread", check=False):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert entered.wait(30)
        assert torch.equal(forward(model, plain_tokens()).logits, plain)
    finally:
        leave.set()
        thread.join()
