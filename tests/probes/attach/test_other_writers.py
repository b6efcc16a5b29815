"""Somebody else writes to a model that is captured or patched: headwise goes on in that way, or says that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import headwise as hw
from headwise.testing.inputs import forward
from tests.kit.edits import FirstKey
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.inputs import plain_tokens
from tests.tiny.reference import recorded_eager, tensors
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

QUICK = ("llama", "whisper", "llava")
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 2e-5}


def _set(model: PreTrainedModel, name: str) -> None:
    model.set_attn_implementation(name)


def _write(model: PreTrainedModel, name: str) -> None:
    model.config._attn_implementation = name


WAYS: tuple[tuple[str, str, Callable[[PreTrainedModel, str], None]], ...] = (
    ("sdpa", "eager", _set),
    ("eager", "sdpa", _write),
)
SWITCHED = [
    pytest.param(row.name, marks=() if row.name in QUICK else pytest.mark.slow)
    for row in ARCHITECTURES.values()
    if row.expected == "pass"
]


def named(model: PreTrainedModel) -> dict[str, str | None]:
    """The implementation that every part of the model names."""
    return {
        name: module.config._attn_implementation
        for name, module in model.named_modules()
        if hasattr(module, "config")
    }


def assert_close(output: Any, other: Any) -> None:
    for name, value in tensors(other).items():
        torch.testing.assert_close(tensors(output)[name], value, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("before", "after", "writer"), WAYS)
@pytest.mark.parametrize("name", SWITCHED)
def test_another_implementation_is_followed(name: str, before: str, after: str, writer: Any) -> None:
    row = ARCHITECTURES[name]
    model = row.build()
    if not model._supports_sdpa:
        pytest.skip("this family has eager attention only")
    model, inputs = row.build(before), row.inputs["plain"]()
    expected, alone = row.build(before), row.build(before)
    for other in (expected, alone):
        writer(other, after)
    with hw.patch(model, FirstKey()) as handle, hw.capture(model, maps=True) as trace:
        writer(model, after)
        output = forward(model, inputs)
        assert handle.active
    assert named(model) == named(alone)
    assert_close(forward(model, inputs), forward(alone, inputs))
    with hw.patch(expected, FirstKey()), hw.capture(expected, maps=True) as other:
        assert_close(output, forward(expected, inputs))
    assert trace.meta["attention"] == other.meta["attention"]
    for site in other.sites:
        torch.testing.assert_close(trace.maps[site], other.maps[site], equal_nan=True, **CLOSE)


def test_a_switch_between_two_steps_of_one_generation(llama: PreTrainedModel) -> None:
    """Prompt and steps are one example, whatever computes them."""
    whole = plain_tokens(1, 12)["input_ids"]
    with hw.capture(llama, maps=True) as trace, torch.no_grad():
        cache = cache_of(llama(whole[:, :8], use_cache=True))
        llama.set_attn_implementation("eager")
        llama(whole[:, 8:], **with_cache(llama, cache))
    with hw.capture(llama, maps=True) as alone:
        forward(llama, {"input_ids": whole})
    assert trace.examples == 1
    for site in alone.sites:
        torch.testing.assert_close(trace.maps[site], alone.maps[site], rtol=0, atol=2e-6)


def test_an_implementation_that_nobody_knows_is_refused(llama: PreTrainedModel) -> None:
    from transformers import AttentionInterface

    mine = AttentionInterface()["sdpa"]
    AttentionInterface._global_mapping["mine"] = mine
    try:
        handle = hw.patch(llama, FirstKey())
        llama.config._attn_implementation = "mine"
        assert not handle.active
        with pytest.raises(hw.UnsupportedModel, match="changed to 'mine' while headwise was attached"):
            forward(llama, plain_tokens())
        handle.remove()
        assert llama.config._attn_implementation == "mine"
        forward(llama, plain_tokens())
    finally:
        del AttentionInterface._global_mapping["mine"]


def test_two_models_with_one_configuration_are_attached_in_turns(llama: PreTrainedModel) -> None:
    other = type(llama)(llama.config).eval()
    inputs = plain_tokens()
    one, two = hw.patch(llama, FirstKey()), hw.patch(other, FirstKey())
    with torch.no_grad():
        patched = other(**inputs).logits
        one.remove()
        assert torch.equal(other(**inputs).logits, patched)
        two.remove()
        assert not torch.equal(other(**inputs).logits, patched)
    assert named(llama) == named(other) == dict.fromkeys(named(llama), "sdpa")


def _clear_hooks(model: PreTrainedModel) -> None:
    for module in model.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()


def _replace_attention(model: PreTrainedModel) -> None:
    layer = model.model.layers[0]
    layer.self_attn = type(layer.self_attn)(model.config, 0)


def _replace_layer(model: PreTrainedModel) -> None:
    model.model.layers[1] = type(model.model.layers[1])(model.config, 1)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (_clear_hooks, "taken headwise's hooks off"),
        (_replace_attention, "was replaced while headwise was attached"),
        (_replace_layer, "was replaced while headwise was attached"),
    ],
)
def test_a_patch_that_is_no_longer_there_says_so(
    llama: PreTrainedModel, damage: Callable[[PreTrainedModel], None], match: str
) -> None:
    handle = hw.patch(llama, FirstKey())
    assert handle.active
    damage(llama)
    assert not handle.active
    with pytest.raises(hw.UnsupportedModel, match=match):
        forward(llama, plain_tokens())
    handle.remove()
    forward(llama, plain_tokens())
    assert llama.config._attn_implementation == "sdpa"


class Around(nn.Module):
    """Calls what it holds."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)


def test_wrappers_may_be_put_around_layers(llama: PreTrainedModel) -> None:
    inputs = plain_tokens()
    with hw.patch(llama, FirstKey()) as handle:
        expected = forward(llama, inputs).logits
        llama.model.layers[0] = Around(llama.model.layers[0])
        assert torch.equal(forward(llama, inputs).logits, expected)
        assert handle.active


def _skips(module: nn.Module) -> None:
    own = type(module).forward

    class Sometimes(type(module)):
        def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if hidden_states.shape[1] < 6:
                return torch.zeros_like(hidden_states), None
            return own(self, hidden_states, *args, **kwargs)

    Sometimes.forward.__wrapped__ = own  # it still is a module of the interface
    module.__class__ = Sometimes


def test_a_module_that_skips_the_interface_is_named_and_not_patched(llama: PreTrainedModel) -> None:
    _skips(llama.model.layers[0].self_attn)
    with hw.capture(llama, maps=True) as trace:
        forward(llama, plain_tokens(1, 4))
    assert [site.layer for site in trace.sites] == [1]
    assert trace.unreached == ("model.layers.0.self_attn",)
    assert "without asking the attention interface" in trace.warnings[0]
    with hw.patch(llama, FirstKey()):
        forward(llama, plain_tokens(1, 8))
        with pytest.raises(hw.UnsupportedModel, match=r"FirstKey did not reach model\.layers\.0\.self_attn"):
            forward(llama, plain_tokens(1, 4))
    with hw.patch(llama, hw.fixes.ZeroHeads(heads=((1, 0),))):
        forward(llama, plain_tokens(1, 4))


def test_a_replica_of_an_attached_model_is_refused(llama: PreTrainedModel) -> None:
    with hw.patch(llama, FirstKey()):
        replica = llama._replicate_for_data_parallel()
        with pytest.raises(hw.UnsupportedModel, match="replicated over devices"):
            replica(**plain_tokens())


@pytest.mark.parametrize("name", ["clap", "bert", "whisper", "mllama"])
def test_to_eager_attention_a_missing_mask_hides_nothing(name: str) -> None:
    """Also where a module does not say whether it is causal."""
    row = ARCHITECTURES[name]
    model = row.build("eager")
    for module in model.modules():
        module.__dict__.pop("is_causal", None)
    inputs = row.inputs["plain"]()
    with recorded_eager(model) as patterns:
        expected = forward(model, inputs)
    with hw.capture(model, maps=True) as trace:
        assert_close(forward(model, inputs), expected)
    for site in trace.sites:
        if (site.module, site.call) in patterns:
            assert torch.equal(trace.maps[site], patterns[site.module, site.call]), site


def test_token_timestamps_leave_a_patch_in_force() -> None:
    """Whisper's generate writes "eager" to the configuration for them."""
    subject = hw.load("zoo:speech")
    inputs = subject.prepare(**hw.zoo.sample("speech").inputs)
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False}
    model: Any = subject.model
    zero = hw.fixes.ZeroHeads(heads=[(layer, head) for layer in range(2) for head in range(4)])

    def write(**more: Any) -> Any:
        with torch.no_grad():
            return model.generate(**inputs, **options, **more)

    expected = write(return_token_timestamps=True)
    _write(model, "sdpa")
    plain, before = write(), snapshot(model)
    with hw.patch(subject, zero) as handle, hw.capture(subject, maps=True) as trace:
        patched = write()
        timed = write(return_token_timestamps=True)
        assert torch.equal(timed["sequences"], patched)
        assert torch.equal(write(), patched)
        assert handle.active
    assert not torch.equal(plain, patched)
    assert trace.examples == 3
    assert model.config._attn_implementation == "eager"
    with hw.capture(subject):
        again = write(return_token_timestamps=True)
    assert torch.equal(again["token_timestamps"], expected["token_timestamps"])
    _write(model, "sdpa")
    assert snapshot(model) == before
