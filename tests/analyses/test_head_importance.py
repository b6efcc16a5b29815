"""Importance of heads: fixes and gradients that say the same another way, and a circuit that is known."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

import headwise as hw
from headwise import analyses
from headwise.analyses._kinds.ablation import questions
from headwise.errors import InputError
from headwise.fixes import Replace, ZeroHeads
from headwise.testing import known_circuit
from headwise.testing.circuit import IND_HEADS, INERT_HEADS, ind_prompts
from headwise.testing.models import build_model
from tests.kit.subjects import word_tokenizer
from tests.tiny.shared import shared

ALL = ("zero", "mean", "resample", "gradient", "gradient per position")
TEXTS = [{"text": [5, 17, 23, 9, 31]}, {"text": [7, 8, 50]}]


@pytest.fixture(scope="module")
def model() -> Any:
    return shared("llama")


@pytest.fixture(scope="module")
def found(model):
    return analyses.head_importance(model, TEXTS, estimators=ALL)


def loss(model, text):
    ids = torch.tensor([text["text"]])
    logits = model(input_ids=ids).logits[0, :-1].double()
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:])


def table(found, estimator):
    rows = found.frame[found.frame["estimator"] == estimator]
    return rows.set_index(["layer", "head"])["importance"]


def outputs(model):
    traces = []
    for text in TEXTS:
        with torch.no_grad(), hw.capture(model, stats=False, heads=True) as trace:
            model(input_ids=torch.tensor([text["text"]]))
        traces.append(trace)
    return traces


@torch.no_grad()
def test_zeroed_heads_are_those_of_the_fix(model, found):
    for (layer, head), value in table(found, "zero").items():
        with hw.patch(model, ZeroHeads(heads=((layer, head),))):
            without = [loss(model, text) for text in TEXTS]
        change = np.mean([a - loss(model, text) for a, text in zip(without, TEXTS, strict=True)])
        assert value == pytest.approx(change, abs=1e-6)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("estimator", ["mean", "resample"])
def test_replaced_heads_are_those_of_the_fix(model, found, estimator):
    traces = outputs(model)
    for (layer, head), value in table(found, estimator).items():
        z = [trace.heads[trace.site(layer)] for trace in traces]
        rows = torch.cat([one[0] for one in z])
        changes = []
        for number, text in enumerate(TEXTS):
            length, other = len(text["text"]), z[1 - number]
            place = torch.arange(length) % other.shape[1]
            put = rows.mean(0).expand(1, length, -1, -1) if estimator == "mean" else other[:, place]
            with hw.patch(model, Replace(quantity="z", layer=layer, value=put, heads=(head,))):
                changes.append(loss(model, text))
            changes[-1] = changes[-1] - loss(model, text)
        assert value == pytest.approx(np.mean(changes), abs=1e-6)


def test_the_gradient_of_a_gate_is_z_times_its_gradient(model, found):
    """`Trace.attribution` takes it from z and dL/dz: no gate is there."""
    whole, apart = {}, {}
    own = copy.deepcopy(model)
    for text in TEXTS:
        with hw.capture(own, heads=True, gradients=True) as trace:
            cost = loss(own, text)
        cost.backward()
        for site in trace.sites:
            slopes = trace.attribution(site, per="query")[0].double()
            for head, row in enumerate(slopes):
                whole.setdefault((site.layer, head), []).append(float(row.sum().abs()))
                apart.setdefault((site.layer, head), []).append(float(row.abs().sum()))
    for estimator, values in (("gradient", whole), ("gradient per position", apart)):
        mine = table(found, estimator)
        np.testing.assert_allclose(mine, [np.mean(values[head]) for head in mine.index], rtol=1e-4, atol=1e-8)


def test_a_head_that_writes_nothing_is_worth_nothing(model):
    own = copy.deepcopy(model)
    width = own.model.layers[1].self_attn.head_dim
    with torch.no_grad():
        own.model.layers[1].self_attn.o_proj.weight[:, 2 * width : 3 * width] = 0
    frame = analyses.head_importance(own, TEXTS, estimators=ALL).frame
    silent = frame.query("layer == 1 and head == 2")["importance"]
    np.testing.assert_allclose(silent, 0, atol=3e-7)
    assert (frame.query("layer == 1 and head != 2")["importance"].abs() > 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_is_left_as_it_was(model, found, frozen):
    own = copy.deepcopy(model).requires_grad_(not frozen)
    again = analyses.head_importance(own, TEXTS, estimators=ALL)
    np.testing.assert_array_equal(again.frame["importance"], found.frame["importance"])
    assert all(p.grad is None and p.requires_grad is not frozen for p in own.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in own.modules())
    with torch.no_grad():
        assert loss(own, TEXTS[0]) == loss(model, TEXTS[0])


def test_the_table_and_its_sentence(found):
    assert found.unit == "change of nats per token"
    per_layer = found.frame.groupby(["estimator", "layer"])["normalised"].apply(lambda part: (part**2).sum())
    np.testing.assert_allclose(per_layer, 1, rtol=1e-5)
    assert "agree with Spearman" in found.summary
    one = analyses.head_importance(shared("llama"), TEXTS, estimators=("gradient",), batch_size=1)
    assert "Spearman" not in one.summary


@pytest.mark.slow
def test_batches_of_heads_change_nothing(model, found):
    one = analyses.head_importance(model, TEXTS, estimators=ALL, batch_size=3)
    np.testing.assert_allclose(one.frame["importance"], found.frame["importance"], atol=1e-6)


def test_the_known_circuit_loses_with_its_heads_and_with_no_other():
    prompts = [{"text": [*ids.tolist(), right]} for ids, right, _ in ind_prompts()[:40:20]]
    found = analyses.head_importance(known_circuit(), prompts, estimators=("zero", "gradient"))
    for estimator in ("zero", "gradient"):
        values = table(found, estimator)
        assert set(values[values.abs() < 1e-6].index) >= INERT_HEADS
        assert set(values[values.abs() < 1e-6].index) <= INERT_HEADS
    assert set(table(found, "zero").nlargest(3).index) == IND_HEADS
    curve = analyses.pruning_curve(known_circuit(), prompts, estimator="zero").frame
    kept, lot = (
        curve[curve["order"] == order].set_index("removed")["loss"] for order in ("importance", "random")
    )
    np.testing.assert_allclose(kept[:0.5], kept[0.0], atol=1e-6)  # seven of twelve heads are inert
    assert lot[0.5] > kept[0.5] + 0.05
    assert kept[1.0] == pytest.approx(lot[1.0])
    assert kept[1.0] > kept[0.0]


@torch.no_grad()
def test_a_curve_begins_and_ends_where_the_fixes_do(model):
    curve = analyses.pruning_curve(model, TEXTS, estimator="gradient", shuffles=1).frame.set_index(
        ["order", "removed"]
    )
    every = tuple((layer, head) for layer in range(2) for head in range(4))
    with hw.patch(model, ZeroHeads(heads=every)):
        nothing = np.mean([loss(model, text) for text in TEXTS])
    plain = np.mean([loss(model, text) for text in TEXTS])
    for order in ("importance", "random"):
        assert curve.loc[(order, 0.0), "loss"] == pytest.approx(plain, abs=1e-6)
        assert curve.loc[(order, 1.0), "loss"] == pytest.approx(nothing, abs=1e-6)
    assert curve.loc["importance", "heads"].tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8]


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_both_kinds_of_an_encoder_decoder(kind):
    pair = [{"text": [5, 6, 7], "target": [2, 9, 8, 11]}]
    frame = analyses.head_importance(shared("bart"), pair, estimators=("zero", "gradient"), kind=kind).frame
    assert set(frame["kind"]) == {kind}
    assert set(frame["tower"]) == {"decoder"}
    assert (frame["importance"] != 0).any()


@pytest.mark.parametrize(
    ("name", "data", "options", "said"),
    [
        ("bert", TEXTS, {}, "this model predicts none.*BertModel.*head_types"),
        ("llama", [], {}, "list of examples.*there is none"),
        ("llama", [3], {}, "list of examples.*got int"),
        ("llama", [{"text": [5]}], {}, "no word to predict"),
        ("llama", [{"text": [[5, 6], [7, 8]]}], {}, "is a batch"),
        ("llama", TEXTS, {"kind": "cross"}, r"no heads of cross-attention.*text self"),
        ("llama", TEXTS[:1], {"estimators": ("resample",)}, "from another example"),
        ("llama", TEXTS, {"estimators": ("taylor",)}, "estimators"),
        ("bart", [{"text": [5, 6]}], {}, r"no word to predict.*target="),
    ],
)
def test_what_cannot_be_measured_is_refused(name, data, options, said):
    with pytest.raises(InputError, match=said):
        analyses.head_importance(shared(name), data, **options)


@pytest.mark.parametrize("options", [{"shuffles": 0}, {"estimator": "none"}, {"batch_size": 0}])
def test_a_curve_that_cannot_be_is_refused(model, options):
    with pytest.raises(InputError):
        analyses.pruning_curve(model, TEXTS, **options)


@pytest.fixture(scope="module")
def masked() -> hw.Subject:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    model = build_model("BertForMaskedLM", {"vocab_size": 20, "max_position_embeddings": 32, **sizes})
    tokenizer = word_tokenizer("<mask>")
    tokenizer.mask_token = "<mask>"
    return hw.wrap(model, tokenizer)


class TestMasked:
    """Hidden tokens: the loss at the masks, every word hidden once, and every seventh at a time."""

    def test_loss_is_that_of_every_word_hidden_in_its_turn(self, masked):
        ids = [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]  # <bos> and ten words
        asked = questions(masked, [{"text": ids}], "head_importance")
        mask = masked.tokenizer.mask_token_id
        hidden = [(one.inputs["input_ids"][0] == mask).nonzero().flatten().tolist() for one in asked]
        assert hidden == [[1, 8], [2, 9], [3, 10], [4], [5], [6], [7]]
        for one, places in zip(asked, hidden, strict=True):
            read = torch.tensor([ids])
            read[0, places] = mask
            with torch.no_grad():
                logits = masked.model(input_ids=read).logits[0, places].double()
                costs = torch.nn.functional.cross_entropy(logits, torch.tensor(ids)[places])
                assert float(one.loss(masked)) == pytest.approx(float(costs), abs=1e-5)

    @pytest.mark.slow
    def test_every_estimator_and_the_curve(self, masked):
        texts = [{"text": [1, 5, 6, 7]}, {"text": [1, 8, 9, 10, 11]}]
        found = analyses.head_importance(masked, texts, estimators=ALL)
        assert found.frame.groupby("estimator").size().tolist() == [4] * 5
        asked = questions(masked, texts, "head_importance")
        with torch.no_grad(), hw.patch(masked, ZeroHeads(heads=((1, 0),))):
            without = np.mean([float(one.loss(masked)) for one in asked])
        with torch.no_grad():
            plain = np.mean([float(one.loss(masked)) for one in asked])
        assert table(found, "zero")[1, 0] == pytest.approx(without - plain, abs=1e-6)
        curve = analyses.pruning_curve(masked, texts).frame.set_index(["order", "removed"])["loss"]
        assert curve["importance", 0.0] == pytest.approx(plain, abs=1e-6)

    def test_resampling_takes_another_example(self, masked):
        with pytest.raises(InputError, match="from another example"):
            analyses.head_importance(masked, [{"text": [1, 5, 6, 7]}], estimators=("resample",))

    def test_a_model_that_nobody_told_its_mask(self, masked):
        with pytest.raises(InputError, match="BertForMaskedLM, a tokenizer without a mask"):
            analyses.head_importance(masked.model, TEXTS)


def test_agreement_is_the_rank_correlation_of_the_table(model, found):
    agreement = analyses.importance_agreement(model, TEXTS, estimators=("zero", "gradient"))
    ranks = [scipy.stats.rankdata(table(found, one)) for one in ("zero", "gradient")]
    known = agreement.frame.set_index(["estimator", "other"])["agreement"]
    assert known["zero", "gradient"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert known["gradient", "zero"] == known["zero", "gradient"]
    assert f"ranks of {len(ranks[0])} heads" in agreement.summary
    with pytest.raises(InputError, match="Two estimators or more"):
        analyses.importance_agreement(model, TEXTS, estimators=("zero", "zero"))
