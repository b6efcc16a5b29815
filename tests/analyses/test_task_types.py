"""Types on prompts made for them: heads that were written by hand to move a name, to count on, to find a needle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import headwise as hw
from headwise import analyses
from headwise.analyses._kinds import tasks, texts
from headwise.analyses._kinds.texts import Text, name_texts, needle_texts, series
from headwise.errors import InputError, UnsupportedModel
from headwise.functional.head_types import rank_of
from headwise.probes.unembedding import unembedding
from headwise.testing import known_circuit, tiny_model
from headwise.testing.circuit import HEAD_WIDTH, ind_prompts, ioi_prompts
from tests.kit.subjects import word_tokenizer

WORDS = "<s> <end> x y one two three four five six seven eight f g h z"


def reader(*words: str, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words."""
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=words[0], unk_token=words[-1], **options
    )


@pytest.fixture
def known() -> hw.Subject:
    return hw.wrap(known_circuit(), reader(*WORDS.split()))


@pytest.fixture(autouse=True)
def prompts_of_the_circuit(monkeypatch):
    """Its own tasks in the place of English: IOI `BOS a f b g b h END` -> a, IND `BOS f a g b h c g` -> b."""
    ioi = [Text(ids.tolist(), [right], [ids.tolist().index(right)]) for ids, right, _ in ioi_prompts()[:6]]
    ind = [Text(ids.tolist(), [right], [4]) for ids, right, _ in ind_prompts()[:4]]
    monkeypatch.setattr(tasks, "name_texts", lambda subject, count, seed: ioi)
    monkeypatch.setattr(tasks, "needle_texts", lambda subject, count, seed: ind)


def scores(found, kind):
    return found.frame[found.frame["type"] == kind].set_index(["layer", "head"])["score"]


def write(model, layer, head):
    """The rows of W_O of a head."""
    return model.transformer.h[layer].attn.c_proj.weight[head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH]


def test_the_mover_of_the_circuit_moves_names(known):
    found = analyses.head_types(known, prompts="names")
    movers = scores(found, "name mover")
    assert movers[2, 0] == pytest.approx(1, abs=1e-6)
    assert movers.drop((2, 0)).max() == 0  # L1H0 finds no name, and all others write nothing of it
    assert scores(found, "negative name mover").max() == 0
    assert set(found.frame["baseline"].round(6)) == {0.125}  # eight keys
    assert found.provenance["model"]
    assert "name mover L2H0 1.00 (flat 0.12)" in found.summary


def test_a_mover_that_writes_the_opposite_is_negative(known):
    with torch.no_grad():
        write(known.model, 2, 0).neg_()
    found = analyses.head_types(known, prompts="names")
    assert scores(found, "name mover").max() == 0
    assert scores(found, "negative name mover")[2, 0] == pytest.approx(1, abs=1e-6)


def test_a_head_that_writes_the_next_word_is_a_successor_and_a_copy_is_none(known, monkeypatch):
    """L2H1 writes in the place of token t what the mover writes in that of t + 1."""
    monkeypatch.setattr(texts, "FEWEST", 8)
    assert series(known) == [list(range(4, 12))]  # one to eight
    flat = analyses.head_types(known, prompts="order")
    assert scores(flat, "successor")[2, 0] == 0  # the mover
    attention = known.model.transformer.h[2].attn
    with torch.no_grad():
        for part in range(3):
            columns = attention.c_attn.weight.view(-1, 3, 4, HEAD_WIDTH)[:, part]
            columns[:, 1] = columns[:, 0]
        write(known.model, 2, 1)[1:16] = 0
        write(known.model, 2, 1)[:15] = write(known.model, 2, 0)[1:16]
    found = analyses.head_types(known, prompts="order")
    assert scores(found, "successor")[2, 1] == 1
    assert set(found.frame["baseline"]) == {1 / 8}
    kinds = analyses.head_kinds(known, prompts=("order",)).frame
    assert kinds.query("head_kind == 'successor'")[["layer", "head"]].values.tolist() == [[2, 1]]


def test_retrieval_counts_what_the_model_says(known):
    found = scores(analyses.head_types(known, prompts="needle"), "retrieval")
    assert found[1, 0] == found[2, 0] == 1  # induction, and the mover behind it
    with torch.no_grad():
        write(known.model, 2, 0).zero_()
    assert scores(analyses.head_types(known, prompts="needle"), "retrieval").max() == 0


@pytest.mark.slow
def test_kinds_say_what_else_a_head_is(known):
    found = analyses.head_kinds(known, period=7)
    kinds = found.frame.set_index(["layer", "head"])
    assert list(kinds.index) == [(layer, head) for layer in range(3) for head in range(4)]
    said = dict(zip(kinds.index, zip(kinds["head_kind"], kinds["also"], strict=True), strict=True))
    assert said[2, 0] == ("induction", "name mover, retrieval")
    assert said[1, 0] == ("induction", "retrieval")
    assert said[0, 3] == ("sink", "")
    alone = analyses.head_kinds(known, prompts=("names",)).frame.set_index(["layer", "head"])
    assert alone.loc[(2, 0), "head_kind"] == "name mover"


def test_what_cannot_be_made_is_said_and_what_was_asked_for_is_refused():
    bare = hw.wrap(tiny_model("gpt2"))
    with pytest.raises(InputError, match=r"language model goes on with.*no tokenizer.*repeats"):
        analyses.head_types(bare, prompts="names")
    with pytest.raises(InputError, match="no tokenizer"):
        analyses.head_kinds(bare, prompts=("needle",))
    with pytest.raises(InputError, match="no prompts"):
        analyses.head_kinds(bare, prompts=())
    with pytest.raises(InputError, match="BertModel is none"):
        analyses.head_types(hw.wrap(tiny_model("bert"), word_tokenizer()), prompts="order")
    notes = analyses.head_kinds(bare, sequences=1, period=3).provenance["warnings"]
    assert [note.split()[5] for note in notes] == [
        f"prompts={name!r}:" for name in ("names", "order", "needle")
    ]


@pytest.mark.parametrize("make", [name_texts, needle_texts])
def test_a_tokenizer_without_these_words_is_refused(make):
    with pytest.raises(InputError, match="cuts the words of prompts"):
        make(hw.wrap(tiny_model("gpt2"), reader(*["<s>", "a", "b", "c"])), 2, 0)


def test_a_series_is_cut_where_a_word_is_no_token(monkeypatch):
    subject = hw.wrap(tiny_model("gpt2"), reader(*["<s>", "1", "2", "3", "4", "6", "7", "8", "A", "?"]))
    with pytest.raises(InputError, match=r"4 days, months.* 16 are needed"):
        series(subject)  # by chance a head writes two of the three next ones
    monkeypatch.setattr(texts, "FEWEST", 4)
    assert series(subject) == [[1, 2, 3, 4]]  # 6 7 8 is too short


def test_answers_stand_where_they_are_said_to_stand():
    subject = hw.load("zoo:lm")
    for make in (name_texts, needle_texts):
        for text in make(subject, 3, 0):
            assert [text.ids[place] for place in text.places] == text.answer
            assert [place for place in range(len(text.ids)) if text.ids[place] == text.answer[0]][:1] == [
                text.places[0]
            ]
    assert name_texts(subject, 3, 0) == name_texts(subject, 3, 0) != name_texts(subject, 3, 1)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_unembedding_is_that_of_the_model(name):
    model: Any = tiny_model(name)
    ids = torch.tensor([[5, 9, 11]])
    reads = unembedding(model)
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
        inner = []
        hook = reads.norm.register_forward_pre_hook(lambda module, args: inner.append(args[0]))
        model(input_ids=ids)
        hook.remove()
        torch.testing.assert_close(reads.logits(inner[0]), out.logits)
        torch.testing.assert_close(reads.logits(inner[0], ids[0]), out.logits[..., ids[0]])
        opposite = 2 * reads.logits(0 * inner[0][:, :1]) - reads.logits(inner[0])
        torch.testing.assert_close(opposite, reads.logits(-inner[0]))


def test_a_model_without_words_has_no_unembedding():
    with pytest.raises(UnsupportedModel, match="logits of its residual"):
        unembedding(tiny_model("bert"))


def test_ranks_by_hand():
    logits = torch.tensor([[[3.0, 1.0, 2.0], [0.0, 0.0, 5.0]]])
    np.testing.assert_array_equal(rank_of(logits, torch.tensor([1, 0])), [[2, 2]])
