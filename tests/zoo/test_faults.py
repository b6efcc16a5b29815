"""Planted faults: what planting does to a model, and that oracle, wrong repair and control do what they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import headwise as hw
from headwise.errors import FixError, InputError
from headwise.model.fingerprint import fingerprint
from headwise.zoo.damage import add_at, add_to, learned, scale_written
from headwise.zoo_checks import faults
from headwise.zoo_checks.faults import HideTokens
from headwise.zoo_checks.faults.learning import TextSink, VisualSink
from tests.kit.subjects import language

MODELS = {name: hw.load(name) for name in ("zoo:vlm", "zoo:lm")}


def inputs_of(subject: hw.Subject, fault: faults.Fault, n: int = 2):
    examples = fault.question().draw(n, 3)
    texts = [example.inputs["text"] for example in examples]
    images = [example.inputs["image"] for example in examples] if "image" in examples[0].inputs else None
    return subject.prepare(text=texts, image=images)


@pytest.mark.parametrize("name", faults.names())
def test_planting_leaves_the_healthy_model_alone(name):
    fault = faults.get(name)
    healthy = MODELS[fault.model]
    inputs = inputs_of(healthy, fault)
    with torch.no_grad():
        before = healthy.model(**inputs).logits
        mark = fingerprint(healthy.model)
        faulty = fault.plant(healthy)
        damaged = faulty.model(**inputs).logits
        after = healthy.model(**inputs).logits
    assert torch.equal(before, after)
    assert fingerprint(healthy.model) == mark
    assert not torch.allclose(before, damaged, atol=1e-2)
    assert faulty.name == f"{fault.model}+{name}"
    own = {parameter.data_ptr() for parameter in healthy.model.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in faulty.model.parameters())


@pytest.mark.parametrize("name", faults.names())
def test_the_damage_is_the_same_every_time_and_survives_a_copy(name):
    fault = faults.get(name)
    one, other = fault.plant(MODELS[fault.model]), fault.plant()
    inputs = inputs_of(one, fault)
    with torch.no_grad():
        logits = one.model(**inputs).logits
        assert torch.equal(logits, other.model(**inputs).logits)
        assert torch.equal(logits, copy.deepcopy(one.model)(**inputs).logits)
    assert fingerprint(one.model) == fingerprint(other.model) != fingerprint(MODELS[fault.model].model)


@pytest.mark.parametrize("name", faults.names())
def test_repairs_can_be_installed_on_the_faulty_model(name):
    fault = faults.get(name)
    faulty = fault.plant(MODELS[fault.model])
    for fixes in (fault.oracle, fault.wrong, fault.control):
        hw.patch(faulty, fixes).remove()


@pytest.mark.parametrize("name", faults.names())
def test_a_fault_refuses_another_model(name):
    fault = faults.get(name)
    with pytest.raises(InputError, match=f"belongs to {fault.model}"):
        fault.plant(language())
    with pytest.raises(InputError, match="other weights"):
        fault.plant(fault.plant(MODELS[fault.model]))


def test_an_unknown_fault_lists_close_names():
    with pytest.raises(InputError, match="text-sink"):
        faults.get("text-sinks")


def test_a_sink_layer_adds_its_vector_where_it_says_and_nowhere_else():
    layer = torch.nn.Linear(3, 2)
    vector, x = torch.tensor([1.0, -2.0]), torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    added = add_at(layer, vector, [1, 4])(x) - layer(x)
    expected = torch.zeros(4, 5, 2)
    expected[:, [1, 4]] = vector
    torch.testing.assert_close(added, expected)
    embedding = torch.nn.Embedding(6, 2)
    planted = add_to(embedding, vector, [3])
    ids = torch.tensor([[3, 0, 5, 3]])
    torch.testing.assert_close(
        planted(ids) - embedding(ids), torch.tensor([[[1.0, -2.0], [0.0, 0.0], [0.0, 0.0], [1.0, -2.0]]])
    )
    assert planted.weight is embedding.weight


def test_planted_text_sink_keeps_the_output_words():
    fault = faults.get("text-sink")
    faulty, healthy = fault.plant().model, MODELS["zoo:lm"].model
    assert torch.equal(faulty.lm_head.weight, healthy.lm_head.weight)
    assert faulty.lm_head.weight is faulty.get_input_embeddings().weight


def test_muted_heads_are_scaled_heads():
    fault = faults.get("muted-heads")
    healthy = MODELS["zoo:vlm"]
    inputs = inputs_of(healthy, fault)
    (oracle,) = fault.oracle
    with torch.no_grad():
        clean = healthy.model(**inputs).logits
        faulty = fault.plant(healthy)
        with hw.patch(faulty, oracle):
            torch.testing.assert_close(faulty.model(**inputs).logits, clean, atol=1e-4, rtol=1e-4)


def test_scaling_what_is_written_changes_only_these_columns():
    model: Any = copy.deepcopy(MODELS["zoo:vlm"].model)
    attention = model.get_decoder().layers[1].self_attn
    before, width = attention.o_proj.weight.clone(), attention.head_dim
    scale_written(model, ((1, 2),), 0.5)
    expected = before.clone()
    expected[:, 2 * width : 3 * width] *= 0.5
    assert torch.equal(attention.o_proj.weight, expected)


def test_planted_patches_stand_out_in_one_dimension():
    fault = faults.get("visual-sink")
    faulty = fault.plant(MODELS["zoo:vlm"])
    with torch.no_grad():
        residual = faulty.model(**inputs_of(faulty, fault, 16), output_hidden_states=True).hidden_states[:-1]
    score = torch.stack(residual)
    score = score[..., VisualSink().dimension].abs() / score.square().mean(-1).sqrt()
    planted = [1 + patch for patch in VisualSink().patches]
    healthy = [place for place in range(1, 37) if place not in planted]
    tau = 0.3125 * 128**0.5
    assert (score[..., planted] >= tau).float().mean() > 0.95
    assert (score[..., healthy] < tau).float().mean() > 0.99


def test_learned_vectors_are_as_long_as_their_recipes_say():
    assert learned("visual_sink").norm() == pytest.approx(VisualSink().length, rel=1e-3)
    assert learned("text_sink").norm() <= TextSink().length * 1.001
    assert learned("text_sink").data_ptr() != learned("text_sink").data_ptr()


def test_hidden_tokens_get_no_attention_and_rows_keep_their_sum():
    subject = MODELS["zoo:lm"]
    prompts = ["Which one is a color?\nA. zinc\nB. blue\nAnswer:", "A cat. A dog."]
    for side in ("left", "right"):
        own = copy.deepcopy(subject.processor)
        own.padding_side = side
        batch = own(prompts, return_tensors="pt", padding=True)
        stop = subject.tokenizer(".", add_special_tokens=False)["input_ids"][0]
        hidden = batch["input_ids"] == stop
        fix = HideTokens(tokens=(stop,), heads=((2, 1),))
        with hw.patch(subject, fix), hw.capture(subject, stats=False, maps=True) as trace, torch.no_grad():
            subject.model(**batch)
        pattern = next(value for site, value in trace.maps.items() if site.layer == 2)
        off = ~torch.eye(pattern.shape[-1], dtype=torch.bool)
        real = batch["attention_mask"].bool()
        there = (hidden[:, None, None] & off) & real[:, None, :, None]
        on_stops = torch.where(there, pattern, 0.0)
        assert on_stops[:, 1].abs().max() == 0
        assert on_stops[:, 0].max() > 0
        sums = pattern.sum(-1)[real[:, None].expand_as(pattern.sum(-1))]
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


def test_hiding_by_id_agrees_with_hiding_by_position_in_generation():
    subject = MODELS["zoo:lm"]
    model: Any = subject.model
    inputs = subject.prepare(text="Which one is a color?\nA. zinc\nB. blue\nAnswer:")
    stop = subject.tokenizer(".", add_special_tokens=False)["input_ids"][0]
    fix = HideTokens(tokens=(stop,))
    with hw.patch(subject, fix), torch.no_grad():
        cached = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        uncached = model.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=False)
    assert torch.equal(cached, uncached)


def test_hiding_refuses_what_is_no_token_id():
    with pytest.raises(FixError, match="whole numbers"):
        HideTokens(tokens=(-1,))
    assert HideTokens(tokens=()).neutral


@pytest.mark.slow  # four scores of 1,000 examples for every fault: most of a minute
@pytest.mark.parametrize("name", faults.names())
def test_the_known_repair_works_the_wrong_one_does_not_and_the_control_is_free(name):
    fault = faults.get(name)
    task, healthy = fault.question(), MODELS[fault.model]
    faulty = fault.plant(healthy)

    def score(subject: hw.Subject, fixes: tuple = ()) -> float:
        with hw.patch(subject, fixes) if fixes else hw.patch(subject, HideTokens(tokens=())):
            return hw.evaluate(subject, task, n=1000, seed=0).value

    clean, bad = score(healthy), score(faulty)
    better = task.metrics[0].higher_is_better
    assert (clean - bad if better else bad - clean) >= 0.1
    assert (score(faulty, fault.oracle) - bad) / (clean - bad) >= 0.8
    assert (score(faulty, fault.wrong) - bad) / (clean - bad) <= 0.2
    assert abs(score(healthy, fault.control) - clean) <= 0.01
