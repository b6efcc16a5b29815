"""Roles of token positions, with a tokenizer and without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

import headwise as hw
from headwise.layout import ROLES, describe, extend, generic_axis, with_tokens
from headwise.layout.roles import is_punctuation, token_texts
from tests.kit.subjects import SEQ2SEQ, SIZE, SPECIAL, WORDS, word_tokenizer

LLAMA = LlamaForCausalLM(LlamaConfig(**SIZE))


def names(roles: torch.Tensor) -> list[list[str]]:
    return [[ROLES[role] for role in row] for row in roles.tolist()]


def roles(model, processor, tower="text", **inputs) -> list[list[str]]:
    inputs = {name: torch.tensor(value) for name, value in inputs.items()}
    return names(describe(model, processor, inputs).axes[tower].roles)


# Words, punctuation, special tokens


def test_a_sentence_of_a_real_encoder(minilm):
    subject = hw.load(minilm)
    axis = subject.layout(subject.prepare(text="Hello, world!")).axes["text"]
    assert axis.tokens == (("[CLS]", "hello", ",", "world", "!", "[SEP]"),)
    assert names(axis.roles) == [["bos", "content", "punctuation", "content", "punctuation", "eos"]]


def test_special_tokens_and_unknown_words():
    tokenizer = word_tokenizer("<tool>")
    ids = tokenizer("a <tool> zebra . <pad>").input_ids
    assert roles(LLAMA, tokenizer, input_ids=[ids]) == [
        ["bos", "content", "special", "content", "punctuation", "special"]
    ]


@pytest.mark.parametrize("text", ["Ġ,", "▁(", "##!", "...", "##", "####", "。", "€", "-"])
def test_punctuation(text):
    assert is_punctuation(text)


@pytest.mark.parametrize("text", ["a", "▁", "Ġ", "", "a.", "▁a", "##s", "1", "\n", "é"])
def test_no_punctuation(text):
    assert not is_punctuation(text)


def byte_level_tokenizer():
    """A byte-level tokenizer that has learnt the words of one sentence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["été 。 été 。 the cat , the cat"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<end>", eos_token="<end>")


def test_byte_level_tokens_are_shown_and_judged_as_characters():
    tokenizer = byte_level_tokenizer()
    ids = tokenizer("été 。 the cat ,").input_ids
    assert token_texts(tokenizer, ids) == ["été", "Ġ。", "Ġthe", "Ġcat", "Ġ,"]
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=400))
    expected = ["first", "punctuation", "content", "content", "punctuation"]
    assert roles(model, tokenizer, input_ids=[ids]) == [expected]


def test_part_of_a_character_keeps_its_mark():
    tokenizer = byte_level_tokenizer()
    part = tokenizer.convert_tokens_to_ids("Ã")
    assert token_texts(tokenizer, [part]) == ["Ã"]


def test_ids_that_no_tokenizer_knows():
    assert token_texts(word_tokenizer(), [-200, 10_000]) == [None, None]
    layout = describe(LLAMA, word_tokenizer(), {"input_ids": torch.tensor([[1, 10_000, -200]])})
    assert with_tokens(layout, word_tokenizer()).axes["text"].tokens == (("<bos>", "10000", ""),)


# One id that opens and ends


@pytest.mark.parametrize(
    ("ids", "mask", "expected"),
    [
        ([0, 5, 0], [1, 1, 1], ["bos", "content", "eos"]),
        ([0, 0, 5], [0, 1, 1], ["padding", "bos", "content"]),
        ([0, 5, 0], [0, 1, 1], ["padding", "first", "eos"]),
        ([5, 0, 0], [1, 1, 0], ["first", "eos", "padding"]),
    ],
)
def test_one_token_that_is_both_beginning_and_end(ids, mask, expected):
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, bos_token_id=0, eos_token_id=0)
    )
    assert roles(model, None, input_ids=[ids], attention_mask=[mask]) == [expected]


# A bare model


def test_a_bare_model_knows_the_ids_of_its_config():
    config = LlamaConfig(**SIZE, bos_token_id=1, eos_token_id=[2, 3], pad_token_id=0)
    assert roles(LlamaForCausalLM(config), None, input_ids=[[1, 9, 3, 2, 0]]) == [
        ["bos", "content", "eos", "eos", "special"]
    ]


def test_a_bare_model_shows_ids():
    layout = with_tokens(describe(LLAMA, None, {"input_ids": torch.tensor([[1, 9]])}), None)
    assert layout.axes["text"].tokens == (("1", "9"),)


# Encoder and decoder


def test_language_tags_and_the_decoder_start():
    tokenizer = word_tokenizer("eng_Latn", "fra_Latn")
    config = M2M100Config(**SEQ2SEQ)
    model = M2M100ForConditionalGeneration(config)
    source, target = tokenizer("eng_Latn a cat . <eos>").input_ids[1:], [2, 5, 6, 2]
    inputs = {"input_ids": [source], "decoder_input_ids": [target]}
    encoder = roles(model, tokenizer, "encoder", **inputs)
    assert encoder == [["language", "content", "content", "punctuation", "eos"]]
    assert roles(model, tokenizer, "decoder", **inputs) == [["bos", "language", "content", "eos"]]


def test_a_decoder_that_starts_with_the_padding_token():
    config = MarianConfig(**SEQ2SEQ | {"decoder_start_token_id": 0})
    inputs = {"input_ids": [[9, 2]], "decoder_input_ids": [[0, 9]]}
    assert roles(MarianMTModel(config), None, "decoder", **inputs) == [["bos", "content"]]


def test_a_mask_of_the_decoder():
    config = MarianConfig(**SEQ2SEQ | {"decoder_start_token_id": 0})
    inputs = {"decoder_input_ids": [[0, 9, 0]], "decoder_attention_mask": [[1, 1, 0]]}
    assert roles(MarianMTModel(config), None, "decoder", **inputs) == [["bos", "content", "padding"]]


def test_states_of_an_encoder_that_ran_before():
    model = MarianMTModel(MarianConfig(**SEQ2SEQ))
    states = model.get_encoder()(input_ids=torch.tensor([[9, 9, 2]]))
    inputs = {"encoder_outputs": states, "attention_mask": torch.tensor([[1, 1, 0]])}
    assert names(describe(model, None, inputs).axes["encoder"].roles) == [["content", "content", "padding"]]


def test_half_of_an_encoder_decoder_is_a_text_model():
    model = T5EncoderModel(T5Config(vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_layers=1))
    assert set(describe(model, None, {"input_ids": torch.tensor([[5, 1]])}).axes) == {"text"}


# Padding


def test_nothing_is_padding_without_a_mask():
    assert "padding" not in roles(LLAMA, word_tokenizer(), input_ids=[[0, 0, 5]])[0]


def test_a_mask_that_includes_the_cache():
    assert roles(LLAMA, None, input_ids=[[5, 6]], attention_mask=[[0, 0, 1, 0, 1]]) == [
        ["padding", "content"]
    ]


def test_embeddings_instead_of_ids():
    inputs = {"inputs_embeds": torch.zeros(1, 3, 8), "attention_mask": torch.tensor([[0, 1, 1]])}
    axis = describe(LLAMA, word_tokenizer(), inputs).axes["text"]
    assert names(axis.roles) == [["padding", "first", "content"]]
    assert axis.ids is None


def test_arguments_that_say_nothing_are_ignored():
    assert describe(LLAMA, None, {"use_cache": True, "input_ids": None, "logits_to_keep": 1}).axes == {}


IDS = st.lists(st.integers(0, len(SPECIAL) + len(WORDS) - 1), min_size=1, max_size=8)


@pytest.mark.filterwarnings("ignore:The tokenizer knows almost nothing")  # of texts drawn as <unk> alone
@given(first=IDS, second=IDS, side=st.sampled_from(["left", "right"]))
def test_a_batch_has_the_roles_of_its_examples(first, second, side):
    tokenizer = word_tokenizer(side=side)
    batch = hw.wrap(LLAMA, tokenizer).prepare(text=[first, second])
    axis = describe(LLAMA, tokenizer, batch).axes["text"]
    for example, ids in enumerate((first, second)):
        alone = describe(LLAMA, tokenizer, {"input_ids": torch.tensor([ids])}).axes["text"]
        assert torch.equal(axis.roles[example][axis.valid[example]], alone.roles[0])


@given(ids=IDS, data=st.data())
def test_padding_is_what_the_mask_hides(ids, data):
    mask = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    found = roles(LLAMA, word_tokenizer(), input_ids=[ids], attention_mask=[[int(real) for real in mask]])[0]
    assert [role != "padding" for role in found] == mask


# Growing, and tables


def test_decode_steps_are_generated():
    axis = describe(LLAMA, None, {"input_ids": torch.tensor([[1, 9], [1, 8]])}).axes["text"]
    longer = extend(axis, torch.tensor([[5], [0]]), torch.tensor([[False], [True]]))
    assert names(longer.roles) == [["bos", "content", "generated"], ["bos", "content", "padding"]]
    assert longer.ids.tolist() == [[1, 9, 5], [1, 8, 0]]
    assert axis.roles.shape == (2, 2)


def test_steps_of_another_batch():
    with pytest.raises(hw.InputError, match="different numbers of examples"):
        extend(generic_axis("text", 2, 3), torch.tensor([[5]]))


@pytest.mark.parametrize(
    ("tower", "sound", "role"),
    [
        ("text", False, "content"),
        ("vision", False, "image"),
        ("qformer", False, "image"),
        ("encoder", True, "audio"),
    ],
)
def test_an_axis_of_which_only_the_size_is_known(tower, sound, role):
    axis = generic_axis(tower, 1, 2, torch.tensor([[True, False]]), sound=sound)
    assert names(axis.roles) == [[role, "padding"]]


def test_a_frame_has_a_row_per_position():
    tokenizer = word_tokenizer(side="left")
    subject = hw.wrap(LLAMA, tokenizer)
    frame = subject.layout(subject.prepare(text=["a cat", "a"])).to_frame()
    assert list(frame.columns) == [
        "tower", "example", "position", "token", "id", "role", "modality",
        "image", "row", "column", "start_seconds", "end_seconds",
    ]  # fmt: skip
    assert frame["token"].tolist() == ["<bos>", "a", "cat", "<pad>", "<bos>", "a"]
    assert frame["role"].tolist() == ["bos", "content", "content", "padding", "bos", "content"]
    assert frame["modality"].tolist() == ["text"] * 3 + ["padding", "text", "text"]
    assert frame["example"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["position"].tolist() == [0, 1, 2, 0, 1, 2]
    assert frame["image"].isna().all()


def test_an_empty_layout_has_an_empty_frame():
    assert hw.TokenLayout().to_frame().empty
