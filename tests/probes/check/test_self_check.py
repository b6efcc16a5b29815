"""The self-check: models that are well pass it, faults put into transformers' own code are caught by it."""

from __future__ import annotations

import functools
import pickle

import pytest
import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, LlamaForCausalLM, cache_utils
from transformers.integrations import sdpa_attention
from transformers.masking_utils import sdpa_mask

import headwise as hw
from headwise.probes.check import releases
from headwise.probes.check.results import Check
from headwise.probes.check.self_check import self_check, trials_of
from headwise.probes.engine.instrumentation import instrument
from tests.tiny import ARCHITECTURES
from tests.tiny.inputs import plain_tokens

SOME = ("llama", "gemma3_text", "bart", "whisper", "vit")
OUT_OF_REACH = ("refused", "none")
REACHED = [row.name for row in ARCHITECTURES.values() if row.expected not in OUT_OF_REACH]


def generated(model, **options):
    with hw.capture(model, **options) as trace:
        model.generate(**plain_tokens(), max_new_tokens=2, do_sample=False, pad_token_id=0)
    return trace


def assert_well(check: Check) -> None:
    assert [trial for trial in check.trials if trial.problem] == []
    assert check.notes or check.trials[0].passed


@pytest.mark.parametrize("name", SOME)
def test_models_that_are_well_pass_every_trial(name: str) -> None:
    check = trials_of(ARCHITECTURES[name].build())
    assert_well(check)
    passed = {trial.name for trial in check.trials if trial.passed}
    expected = {"forward"}
    expected |= set() if name in ("whisper", "vit") else {"padded batch"}
    assert passed == expected | (set() if name == "vit" else {"decode step", "static cache"})


@pytest.mark.slow
@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", REACHED)
def test_no_model_is_accused_falsely(name: str, attention: str | None) -> None:
    assert_well(trials_of(ARCHITECTURES[name].build(attention)))


def test_it_takes_a_handful_of_forwards(llama) -> None:
    calls = []
    llama.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    self_check(llama)
    assert len(calls) == 4
    assert sum(calls) <= 64
    self_check(llama)
    assert len(calls) == 4


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_a_capture_leaves_nothing_on_the_model(name: str) -> None:
    model = ARCHITECTURES[name].build()
    generated(model, check=False)  # what transformers itself leaves behind
    attributes, pickled = dict(vars(model)), pickle.dumps(model)
    generated(model)
    assert vars(model) == attributes
    assert pickle.dumps(model) == pickled
    assert b"headwise" not in pickled


def refused(model) -> str:
    """What the self-check says; without it, the fault goes by unseen."""
    with hw.capture(model, check=False) as trace, torch.no_grad():
        model(**plain_tokens())
    assert trace.examples == 2
    with pytest.raises(hw.UnsupportedModel) as caught, hw.capture(model):
        pass
    return str(caught.value)


def refused_for_generate(model) -> str:
    """What is said when the model generates; a forward still works."""
    with hw.capture(model) as trace, torch.no_grad():
        model(**plain_tokens())
    assert trace.examples == 2
    with pytest.raises(hw.UnsupportedModel) as caught:
        generated(model)
    with pytest.raises(hw.UnsupportedModel), hw.patch(model, hw.fixes.ZeroHeads(heads=((0, 0),))):
        model.generate(**plain_tokens(), max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert "_headwise" not in vars(model)
    return str(caught.value)


def test_a_mask_that_loses_padding_is_caught(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    instrument(llama)
    with hw.capture(llama, check=False), torch.no_grad():  # the mask functions are registered
        llama(**plain_tokens())
    lost = {"headwise": lambda **options: sdpa_mask(**{**options, "attention_mask": None})}
    for name, function in lost.items():
        monkeypatch.setitem(AttentionMaskInterface._global_mapping, name, function)
    assert "on a padded batch" in refused(llama)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "olmo2"])
@pytest.mark.parametrize("where", ["scores", "pattern"])
def test_a_scaled_pattern_is_caught_and_its_layer_named(
    monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    right = sdpa_attention.sdpa_attention_forward

    def scaled(module, query, key, value, attention_mask, **options):
        factor = (0.5, 1.0) if where == "scores" else (1.0, 0.5)
        z, pattern = right(module, query * factor[0], key, value, attention_mask, **options)
        return z * factor[1], pattern

    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", scaled)
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", scaled)
    assert "in text self 0" in refused(ARCHITECTURES[name].build())


def test_a_step_that_drops_the_past_is_caught(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    right = cache_utils.DynamicLayer.update

    def update(self, key_states, value_states, *args, **kwargs):
        right(self, key_states, value_states, *args, **kwargs)
        return key_states, value_states

    monkeypatch.setattr(cache_utils.DynamicLayer, "update", update)
    assert "a step sees 1 keys" in refused_for_generate(llama)


class Sealed:
    """A cache in a wrapper that shows nothing of it."""

    def __init__(self, cache) -> None:
        self.content = cache


def test_a_cache_that_travels_unseen_is_caught(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    forward, prepare = LlamaForCausalLM.forward, LlamaForCausalLM.prepare_inputs_for_generation

    @functools.wraps(forward)
    def sealed(self, *args, memory=None, **kwargs):
        return forward(self, *args, **{**kwargs, **({} if memory is None else memory.content)})

    @functools.wraps(prepare)
    def handed_on(self, *args, **kwargs):
        inputs = prepare(self, *args, **kwargs)
        caches = {name: value for name, value in inputs.items() if hasattr(value, "get_seq_length")}
        return {k: v for k, v in inputs.items() if k not in caches} | {"memory": Sealed(caches)}

    monkeypatch.setattr(LlamaForCausalLM, "forward", sealed)
    monkeypatch.setattr(LlamaForCausalLM, "prepare_inputs_for_generation", handed_on)
    assert "cannot follow a generation" in refused_for_generate(llama)


def test_a_softcap_that_sdpa_leaves_out_is_none() -> None:
    """Up to transformers 5.20 a model with a softcap may run sdpa, which ignores it; what ran is what is captured."""
    row = ARCHITECTURES["gemma2"]
    try:
        model = row.build("sdpa")
    except ValueError as error:
        pytest.skip(f"this transformers refuses it: {str(error)[:60]}")
    inputs = row.inputs["plain"]()
    with torch.no_grad():
        expected = model(**inputs).logits
        with hw.capture(model):
            torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)


def test_nan_is_named_with_the_module_where_it_begins(llama) -> None:
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    for call in (lambda: self_check(llama), lambda: hw.doctor(llama)):
        with pytest.raises(hw.InputError, match=r"own output is NaN.*model\.layers\.1\.mlp\.up_proj"):
            call()


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_scores_that_a_kernel_hides_are_named_as_the_models_own(name: str) -> None:
    """Where no mask is given, sdpa on a CPU makes numbers of scores that are NaN."""
    model = ARCHITECTURES[name].build("sdpa")
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight[0, 0] = torch.nan
    use = hw.fixes.ScaleHeads(heads=((0, 0),), factor=0.5)
    for call in (lambda: hw.patch(model, use), lambda: hw.doctor(model)):
        with pytest.raises(hw.InputError, match=r"own (attention|output) is NaN.*layers\.1\.self_attn"):
            call()


def test_padding_on_which_the_model_itself_is_nan_is_a_note() -> None:
    report = hw.doctor(ARCHITECTURES["llama"].build("eager").double())
    assert report.ok
    assert report.trials is not None
    assert (
        report.trials.set_index("trial").loc["padded batch", "note"] == "the model's own output is NaN on it"
    )


def test_a_newer_release_is_said_with_what_was_found(monkeypatch: pytest.MonkeyPatch, llama) -> None:
    monkeypatch.setattr(releases, "VERIFIED", ("5.0.0", "5.1.0"))
    this = f"this is {transformers.__version__}"
    said = (
        f"headwise is verified up to transformers 5.1; {this}: the self-check passed: forward, padded batch"
    )
    with hw.capture(llama) as trace, torch.no_grad():
        llama(**plain_tokens())
    assert trace.warnings == (f"{said}.",)
    assert generated(llama).warnings == (f"{said}, decode step.",)


def test_the_release_at_work_is_verified() -> None:
    assert transformers.__version__ in releases.VERIFIED
