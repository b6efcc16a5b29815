"""Layers that are run again for the backward pass are run as they were, whatever is attached by then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import headwise as hw
from headwise import fixes
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES
from tests.tiny.checkpointing import enable_checkpointing
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = pytest.mark.parametrize("reentrant", [True, False])


class Weaken:
    """Weakens every row by what the residual says, and lengthens the residual."""

    needs_residual = True

    def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        weight = context.residual.mean().sigmoid()
        return pattern * (1 - weight / 2)

    def edit_residual(self, residual: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        return residual * 1.5


FIXES = [fixes.MaskKeys(keys=(2,)), fixes.ScaleHeads(heads=((0, 1), (1, 2)), factor=0.25), Weaken()]
QUICK = [("llama", FIXES[0]), ("llama", FIXES[2]), ("bart", FIXES[2])]
SLOW = [
    ("llama", FIXES[1]),
    ("bart", FIXES[0]),
    *((name, fix) for name in ("gemma2", "bert", "t5", "vit", "bloom", "llava") for fix in FIXES[1:]),
]
CASES = [
    pytest.param(name, fix, id=f"{name} {type(fix).__name__}", marks=[pytest.mark.slow] * (case in SLOW))
    for case in (*QUICK, *SLOW)
    for name, fix in (case,)
]


def built(name: str, reentrant: bool | None) -> PreTrainedModel:
    model: Any = ARCHITECTURES[name].build().train()
    if reentrant is not None:
        enable_checkpointing(model, use_reentrant=reentrant)
        model.enable_input_require_grads()
    return model


def loss_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)  # the same dropout each time
    cached = {"use_cache": False} if "input_ids" in inputs else {}
    output = model(**inputs, **cached)
    value = output.logits if output.get("logits") is not None else output[0]
    return value[:, -1].logsumexp(-1).sum()


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@KINDS
@pytest.mark.parametrize(("name", "fix"), CASES)
def test_the_gradient_is_that_of_the_patched_forward(name: str, fix: Any, reentrant: bool) -> None:
    inputs = ARCHITECTURES[name].inputs["plain"]()
    model = built(name, None)
    with hw.patch(model, fix):
        loss_of(model, inputs).backward()
    expected = gradients(model)
    model = built(name, reentrant)
    loss_of(model, inputs)  # transformers puts hooks of its own on first use
    before = snapshot(model)
    for attached in (None, FirstKey(), "capture"):
        with hw.patch(model, fix):
            loss = loss_of(model, inputs)
        other = (
            hw.capture(model)
            if attached == "capture"
            else hw.patch(model, attached)
            if attached
            else nullcontext()
        )
        with pytest.raises(hw.CaptureError) if attached == "capture" else nullcontext(), other:
            loss.backward()
        assert_same(gradients(model), expected)
    assert snapshot(model) == before


@KINDS
def test_the_gradient_of_a_plain_forward_stays_plain(reentrant: bool) -> None:
    inputs = ARCHITECTURES["llama"].inputs["plain"]()
    model = built("llama", None)
    loss_of(model, inputs).backward()
    plain = gradients(model)
    with hw.patch(model, FirstKey()):
        loss_of(model, inputs).backward()
    both = {name: value + plain[name] for name, value in gradients(model).items()}
    model = built("llama", reentrant)
    one = loss_of(model, inputs)
    with hw.patch(model, FirstKey()):
        two = loss_of(model, inputs)
        (one + two).backward()
    assert_same(gradients(model), both)


def _whole(model: PreTrainedModel, reentrant: bool) -> None:
    """The body as a whole is one checkpoint."""
    body: Any = model.model
    own = body.forward

    def again(**inputs: Any) -> Any:
        embeddings = body.embed_tokens(inputs.pop("input_ids"))
        inputs.pop("inputs_embeds", None)
        return checkpoint(
            lambda given: own(inputs_embeds=given, **inputs), embeddings, use_reentrant=reentrant
        )

    body.forward = again


def _attention(model: PreTrainedModel, reentrant: bool) -> None:
    """Every attention module is a checkpoint of its own."""
    for layer in model.model.layers:
        own = layer.self_attn.forward

        def again(own: Any = own, **inputs: Any) -> Any:
            hidden = inputs.pop("hidden_states")
            return checkpoint(
                lambda given: own(hidden_states=given, **inputs), hidden, use_reentrant=reentrant
            )

        layer.self_attn.forward = again


@pytest.mark.parametrize(("place", "reentrant"), [(_whole, False), (_attention, True), (_attention, False)])
@pytest.mark.parametrize("training", [True, False])
def test_checkpoints_of_the_users_own(
    place: Callable[[Any, bool], None], reentrant: bool, training: bool
) -> None:
    inputs = ARCHITECTURES["llama"].inputs["plain"]()
    model = built("llama", None).train(training)
    fix = FIXES[2] if place is _whole else FIXES[:2]  # the residual lies outside of an attention module
    with hw.patch(model, fix):
        loss_of(model, inputs).backward()
    expected = gradients(model)
    place(model, reentrant)
    with hw.patch(model, fix):
        loss = loss_of(model, inputs)
    loss.backward()
    assert_same(gradients(model), expected)


@KINDS
def test_windows_that_are_run_again_are_patched(reentrant: bool) -> None:
    """The vision tower of Qwen2.5-VL works window by window."""
    inputs = ARCHITECTURES["qwen2_5_vl"].inputs["plain"]()
    fix: Any = FirstKey()
    fix.tower = "vision"
    model = built("qwen2_5_vl", None)
    plain = loss_of(model, inputs)
    with hw.patch(model, fix):
        loss = loss_of(model, inputs)
    assert not torch.allclose(loss, plain)
    loss.backward()
    expected = gradients(model)
    model = built("qwen2_5_vl", reentrant)
    with hw.patch(model, fix):
        loss = loss_of(model, inputs)
    loss.backward()
    assert_same(gradients(model), expected)


def test_gradients_of_patterns_are_refused_where_layers_run_without_a_graph() -> None:
    inputs = ARCHITECTURES["llama"].inputs["plain"]()
    model = built("llama", True)
    with (
        pytest.raises(hw.CaptureError, match="use_reentrant=False"),
        hw.capture(model, maps=True, gradients=True),
    ):
        loss_of(model, inputs)
    loss_of(model, inputs).backward()
    assert gradients(model)


@pytest.mark.parametrize("name", ["llama", "qwen2_5_vl"])
def test_gradients_of_patterns_through_checkpoints(name: str) -> None:
    inputs = ARCHITECTURES[name].inputs["plain"]()
    found = []
    for reentrant in (None, False):
        model = built(name, reentrant)
        with hw.capture(model, maps=True, stats=False, gradients=True) as trace:
            loss = loss_of(model, inputs)
        loss.backward()
        found.append([trace.map_gradients[site] for site in trace.sites])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
