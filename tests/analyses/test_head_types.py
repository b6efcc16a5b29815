"""Types of heads: the model whose heads were written by hand, flat patterns by hand, and slow twins."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise import analyses
from headwise.analyses._kinds.patterns import pattern_scores
from headwise.errors import InputError
from headwise.functional.head_types import copying_score, mass_on
from headwise.functional.induction import induction_score
from headwise.probes.attach.sites import Site
from headwise.testing import known_circuit, tiny_model
from tests.kit.traces import axis, causal, make_trace, random_pattern
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

ENCODER = Site("encoder", "self", 0)
TEXT = Site("text", "self", 0)


@pytest.fixture(scope="module")
def known():
    return analyses.head_types(known_circuit())


def score(frame, kind, layer, head):
    return frame.query("type == @kind and layer == @layer and head == @head")["score"].item()


class TestKnownCircuit:
    @pytest.mark.parametrize(
        ("kind", "layer", "head"),
        [("previous", 0, 0), ("duplicate", 0, 1), ("first", 0, 3), ("induction", 1, 0), ("copying", 2, 0)],
    )
    def test_the_head_of_every_type_scores_one_and_no_other_does(self, known, kind, layer, head):
        scores = known.frame[known.frame["type"] == kind].set_index(["layer", "head"])["score"]
        assert scores.idxmax() == (layer, head)
        assert scores[layer, head] == pytest.approx(1, abs=2e-6)
        assert not (scores.drop((layer, head)) > 0.82).any()

    def test_a_flat_head_has_the_baselines_by_hand(self, known):
        """Fifteen tokens, [BOS] + 2 x 7: rows of the second copy are those from 8 on."""
        before, later = (
            np.mean([1 / (t + 1) for t in range(1, 15)]),
            np.mean([1 / (t + 1) for t in range(8, 15)]),
        )
        flat = {
            "previous": before,
            "current": before,
            "first": before,
            "duplicate": later,
            "induction": later,
        }
        for kind, baseline in flat.items():
            rows = known.frame[known.frame["type"] == kind]
            np.testing.assert_allclose(rows["baseline"], baseline, rtol=1e-6)
            assert score(rows, kind, 0, 2) == pytest.approx(baseline, rel=1e-5)
        assert set(known.frame["type"]) == {*flat, "copying"}  # causal rows see no next token

    def test_the_sentence_and_the_record(self, known):
        assert "induction L1H0 1.00 (flat 0.09)" in known.summary
        assert known.provenance["parameters"] == {
            "prompts": "repeats",
            "sequences": None,
            "period": None,
            "seed": 0,
        }
        assert known.provenance["model"]

    @pytest.mark.slow
    def test_a_seed_gives_the_same_tokens_again(self, known):
        again = analyses.head_types(hw.wrap(known_circuit()))
        np.testing.assert_array_equal(again.frame["score"], known.frame["score"])


def twin(pattern, tokens, words):
    """Plain loops: type -> (score, baseline, rows), of one pattern."""
    queries, keys = pattern.shape
    looked: dict[str, list[tuple[float, float]]] = {}
    for t in range(queries):
        visible = [j for j in range(keys) if pattern[t, j] > 0]
        said = [s for s in range(keys) if s != t and words[s] and words[t] and tokens[s] == tokens[t]]
        wanted = {
            "previous": [t - 1],
            "next": [t + 1],
            "current": [t] if t else [],
            "first": [0] if t else [],
            "duplicate": said,
            "induction": [s + 1 for s in said if s in visible and s + 1 != t],
        }
        for kind, places in wanted.items():
            there = [j for j in places if j in visible]
            if there:
                looked.setdefault(kind, []).append(
                    (sum(pattern[t, j] for j in there), len(there) / len(visible))
                )
    return {kind: (*np.mean(rows, axis=0), len(rows)) for kind, rows in looked.items()}


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=7), st.booleans())
@settings(max_examples=30, deadline=None)
def test_scores_are_those_of_plain_loops(letters, both_ways):
    tokens = ["<s>", *letters]
    pattern = random_pattern(1, 1, len(tokens), len(tokens))
    pattern = pattern if both_ways else causal(pattern)
    words = axis("text", [["bos"] + ["content"] * len(letters)], [tokens])
    frame = pattern_scores(make_trace({TEXT: pattern}, {"text": words}, causal=not both_ways))
    wanted = twin(pattern[0, 0].double().numpy(), tokens, [False] + [True] * len(letters))
    assert set(frame["type"]) == set(wanted)
    for row in frame.to_dict("records"):
        np.testing.assert_allclose(
            [row["score"], row["baseline"], row["rows"]], wanted[row["type"]], rtol=1e-5
        )


def test_keys_are_told_by_their_roles_and_cross_attention_has_no_diagonal():
    roles = [["special", "content", "punctuation", "special"]]
    axes = {"encoder": axis("encoder", roles, [["[CLS]", "a", ".", "[SEP]"]])}
    axes |= {"decoder": axis("decoder", [["bos"] * 3])}
    pattern = random_pattern(1, 2, 4, 4)
    cross = random_pattern(1, 2, 3, 4)
    trace = make_trace({ENCODER: pattern, Site("decoder", "cross", 0): cross}, axes)
    frame = analyses.pattern_types(trace).frame
    own, other = (
        frame[frame["kind"] == kind].set_index(["type", "head"])["score"] for kind in ("self", "cross")
    )
    np.testing.assert_allclose(own["punctuation"], pattern[0, :, :, 2].mean(-1), rtol=1e-5)
    np.testing.assert_allclose(other["separator"], cross[0][..., [0, 3]].sum(-1).mean(-1), rtol=1e-5)
    assert set(other.index.get_level_values("type")) == {"first", "separator", "punctuation"}


def test_induction_is_that_of_the_formula():
    pattern = causal(random_pattern(2, 3, 11, 11))
    target = torch.zeros(11, 11, dtype=torch.bool)
    for row in range(6, 11):
        target[row, row - 4] = True
    torch.testing.assert_close(mass_on(pattern, target), induction_score(pattern, period=5, first=6))


def test_copying_is_of_the_map_from_tokens_to_logits():
    model: Any = shared("llama")
    frame = analyses.head_types(model, sequences=1).frame
    read, written = (
        model.get_input_embeddings().weight.double(),
        model.get_output_embeddings().weight.double(),
    )
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    for layer, block in enumerate(model.model.layers):
        v, o = block.self_attn.v_proj.weight.double(), block.self_attn.o_proj.weight.double()
        width = block.self_attn.head_dim
        for head in range(model.config.num_attention_heads):
            own = v[(head // groups) * width : (head // groups + 1) * width]
            full = read @ own.T @ o[:, head * width : (head + 1) * width].T @ written.T
            values = np.linalg.eigvals(full.detach().numpy())
            assert score(frame, "copying", layer, head) == pytest.approx(
                values.real.sum() / np.abs(values).sum(), abs=1e-4
            )


def test_a_head_that_writes_nothing_copies_nothing():
    assert copying_score(torch.zeros(1, 2, 2)).isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "bart", "gpt_neox", "gemma2"])
def test_every_family_has_its_types(name):
    frame = analyses.head_types(shared(name), sequences=1).frame
    towers = {"bert": {"text"}, "bart": {"encoder", "decoder"}}.get(name, {"text"})
    assert set(frame["tower"]) == towers
    assert ("next" in set(frame["type"])) == (name in ("bert", "bart"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sequences": 0}, "one sequence or more"),
        ({"period": 1}, "has two tokens or more"),
        ({"period": 8}, r"no room for two copies of 8.*room for 7"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        analyses.head_types(known_circuit(), **given)


def test_a_model_that_reads_no_words_is_told_what_to_do():
    model = cast("Any", ARCHITECTURES["vit"].build())
    with pytest.raises(InputError, match=r"models that read words.*pixel_values.*pattern_types"):
        analyses.head_types(model)


def test_tiny_models_left_as_they_were():
    model = tiny_model("llama")
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        analyses.head_types(model, sequences=1)
        assert torch.equal(model(input_ids=ids).logits, before)
    assert not any(module._forward_hooks for module in model.modules())
