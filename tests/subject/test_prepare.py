"""Inputs of text: what the processor makes of it, alone and for a decoder, and what is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

import headwise as hw
from tests.kit.subjects import (
    SEQ2SEQ,
    SIZE,
    language,
    llava,
    picture,
    refusal,
    word_tokenizer,
)

# Text


def test_one_text_is_what_the_tokenizer_gives():
    tokenizer = word_tokenizer()
    inputs = language(tokenizer).prepare(text="a cat sat")
    assert inputs["input_ids"].tolist() == [tokenizer("a cat sat").input_ids]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [True, False])
def test_a_batch_is_padded_on_the_tokenizers_side(side, pad):
    tokenizer = word_tokenizer(side=side, pad=pad)
    inputs = language(tokenizer).prepare(text=["a", "a cat sat"])
    filler = 0 if pad else tokenizer.eos_token_id
    short = tokenizer("a").input_ids
    expected = [filler] * 2 + short if side == "left" else short + [filler] * 2
    assert inputs["input_ids"][0].tolist() == expected
    assert inputs["attention_mask"][0].tolist() == ([0, 0, 1, 1] if side == "left" else [1, 1, 0, 0])
    assert tokenizer.pad_token == ("<pad>" if pad else None)


def test_a_batch_equals_the_tokenizers_own_padding(minilm):
    subject = hw.load(minilm)
    texts = ["A short one.", "And one that is quite a bit longer than the first."]
    inputs = subject.prepare(text=texts)
    for name, value in subject.tokenizer(texts, padding=True, return_tensors="pt").items():
        assert torch.equal(inputs[name], value)


@pytest.mark.parametrize("ids", [[5, 6, 7], [[5, 6, 7]], torch.tensor([5, 6, 7]), torch.tensor([[5, 6, 7]])])
def test_a_bare_model_takes_ids(ids):
    inputs = language().prepare(text=ids)
    assert inputs["input_ids"].tolist() == [[5, 6, 7]]


def test_inputs_serve_forward_and_generate():
    subject = language(word_tokenizer(side="left"), pad_token_id=0)
    inputs = subject.prepare(text=["a cat", "a"])
    assert subject.model(**inputs).logits.shape == (2, 3, 64)
    assert subject.model.generate(**inputs, max_new_tokens=2, do_sample=False).shape == (2, 5)


def test_token_types_go_only_to_models_that_take_them():
    tokenizer = word_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert "token_type_ids" not in language(tokenizer).prepare(text="a cat")


@pytest.mark.parametrize("text", ["", "  \n", ["a", ""]])
def test_an_empty_text(text):
    assert "The text is empty." in refusal(language(word_tokenizer()), text=text)


def test_a_text_without_tokens():
    assert "no tokens" in refusal(language(), text=[[5], []])


def test_nothing_at_all():
    assert "nothing to prepare" in refusal(language(word_tokenizer()))


@pytest.mark.parametrize("text", [3.5, [], {"a": 1}])
def test_something_that_is_no_text(text):
    assert "not a text" in refusal(language(word_tokenizer()), text=text)


@pytest.mark.parametrize("text", [[1.5, 2], [["a", "b"]], [[1, True]], [[1, None]], [[1], 2.5]])
def test_ids_that_are_none(text):
    assert "not a text" in refusal(language(word_tokenizer()), text=text)


@pytest.mark.parametrize("messages", [[{"role": "user"}], [{"role": "system"}, {"role": "user"}]])
def test_the_messages_of_a_chat_are_no_text(messages):
    for text in (messages, [messages], [messages, messages], ["a", *messages]):
        assert "apply_chat_template" in refusal(language(word_tokenizer()), text=text)


def test_text_and_ids_in_one_batch():
    assert "mixed" in refusal(language(word_tokenizer()), text=["a", [5]])


def test_text_for_a_bare_model():
    assert "hw.wrap(model, processor)" in refusal(language(), text="a cat")


@pytest.mark.parametrize("words", [23, 24])
def test_a_text_as_long_as_the_positions(words):
    subject = language(word_tokenizer())
    if words == 23:
        assert subject.prepare(text="cat " * words)["input_ids"].shape == (1, 24)
    else:
        assert "25 tokens long and the model has 24 positions" in refusal(subject, text="cat " * words)


def test_positions_of_gpt2_and_roberta():
    gpt2 = hw.wrap(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)))
    assert "9 tokens long and the model has 8 positions" in refusal(gpt2, text=[1] * 9)
    roberta = hw.wrap(RobertaModel(RobertaConfig(**SIZE, pad_token_id=1)).eval())
    assert "has 22 positions" in refusal(roberta, text=[5] * 23)
    roberta.model(**roberta.prepare(text=[5] * 22))


def test_relative_positions_have_no_limit():
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, decoder_start_token_id=0)
    subject = hw.wrap(T5ForConditionalGeneration(config))
    assert subject.prepare(text=[5] * 600)["input_ids"].shape == (1, 600)


def test_the_dtype_of_the_model_is_given_to_floats_only():
    subject = llava()
    subject.model.to(torch.bfloat16)
    inputs = subject.prepare(text="a cat", image=picture())
    assert inputs["pixel_values"].dtype == torch.bfloat16
    assert inputs["input_ids"].dtype == torch.int64


# Encoder and decoder


def test_the_decoder_starts_with_its_start_token():
    subject = hw.wrap(BartForConditionalGeneration(BartConfig(**SEQ2SEQ)).eval(), word_tokenizer())
    inputs = subject.prepare(text=["a cat", "a"])
    assert inputs["decoder_input_ids"].tolist() == [[2], [2]]
    assert subject.model(**inputs).logits.shape == (2, 1, 64)
    assert len(subject.model.generate(**inputs, max_new_tokens=2, do_sample=False)) == 2


def test_a_target_is_shifted_as_the_model_shifts_its_labels():
    model = BartForConditionalGeneration(BartConfig(**SEQ2SEQ))
    labels = word_tokenizer()("a cat <eos>").input_ids
    given = hw.wrap(model, word_tokenizer()).prepare(text="a", target="a cat <eos>")["decoder_input_ids"]
    assert torch.equal(given, model.prepare_decoder_input_ids_from_labels(torch.tensor([labels])))


def test_targets_of_unequal_length_are_padded_behind():
    subject = hw.wrap(
        M2M100ForConditionalGeneration(M2M100Config(**SEQ2SEQ)).eval(), word_tokenizer(side="left")
    )
    inputs = subject.prepare(text=["a", "a"], target=["a", "a cat"])
    assert inputs["decoder_input_ids"][:, 0].tolist() == [2, 2]
    assert inputs["decoder_attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_target_ids_are_taken_as_they_are():
    subject = hw.wrap(BartForConditionalGeneration(BartConfig(**SEQ2SEQ)))
    assert subject.prepare(text=[5], target=[2, 9])["decoder_input_ids"].tolist() == [[2, 9]]


def test_a_target_for_a_model_without_decoder():
    assert "no decoder" in refusal(language(word_tokenizer()), text="a", target="a")


def test_a_decoder_whose_start_is_unknown():
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, decoder_start_token_id=None)
    subject = hw.wrap(T5ForConditionalGeneration(config))
    assert "which token its decoder starts with" in refusal(subject, text=[5])
