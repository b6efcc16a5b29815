"""Inputs: what the processor makes of text, images and sound, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    WhisperForAudioClassification,
)

import headwise as hw
from tests.kit.subjects import (
    PATCHES,
    SEQ2SEQ,
    SIZE,
    VISION,
    language,
    llava,
    llava_processor,
    picture,
    tone,
    wav2vec2,
    whisper,
    word_tokenizer,
)


def refusal(subject, **inputs) -> str:
    with pytest.raises(hw.InputError) as caught:
        subject.prepare(**inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# Images


def test_an_image_without_placeholder_is_put_in_front():
    subject = llava()
    inputs = subject.prepare(text="what is this ?", image=picture())
    by_hand = subject.processor(text="<image>\nwhat is this ?", images=picture(), return_tensors="pt")
    assert torch.equal(inputs["input_ids"], by_hand["input_ids"])
    assert torch.equal(inputs["pixel_values"], by_hand["pixel_values"])
    assert subject.model(**inputs).logits.shape == (1, inputs["input_ids"].shape[1], 64)
    assert subject.model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 1


def test_a_placeholder_stays_where_it_was_written():
    inputs = llava().prepare(text="what is <image> ?", image=picture())
    assert inputs["input_ids"][0, :3].tolist() == word_tokenizer("<image>")("what is").input_ids


def test_the_chat_template_is_used_where_there_is_one():
    processor = llava_processor()
    processor.chat_template = (
        "{{ bos_token }} {% for part in messages[0]['content'] %}"
        "{{ '<image> ' if part['type'] == 'image' else part['text'] }}{% endfor %} this :"
    )
    inputs = llava(processor).prepare(text="what is", image=picture())
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(1) == 1
    assert ids[-4:-1] == word_tokenizer("<image>")("what is this").input_ids[1:]


def test_a_batch_and_several_images_per_text():
    subject = llava()
    batch = subject.prepare(text=["what is this ?", "a cat"], image=[picture(), picture()])
    assert (batch["input_ids"] == 4).sum(1).tolist() == [16, 16]
    assert batch["attention_mask"][1, 0] == 0
    both = subject.prepare(text="a cat", image=[picture(), picture()])
    assert (both["input_ids"] == 4).sum(1).tolist() == [32]
    nested = subject.prepare(text=["a", "a"], image=[[picture()], [picture(), picture()]])
    assert (nested["input_ids"] == 4).sum(1).tolist() == [16, 32]
    subject.model(**nested)


def test_an_image_alone():
    assert (llava().prepare(image=picture())["input_ids"] == 4).sum() == 16
    square = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    subject = hw.wrap(CLIPVisionModel(CLIPVisionConfig(**VISION, **PATCHES)), square)
    assert subject.prepare(image=[picture(), picture()])["pixel_values"].shape == (2, 3, 32, 32)


def test_paths_pictures_and_arrays_are_the_same_image(tmp_path):
    image = picture()
    image.save(tmp_path / "image.png")
    array = np.asarray(image)
    forms = [str(tmp_path / "image.png"), tmp_path / "image.png", image, array]
    forms += [array / 255, torch.from_numpy(array.transpose(2, 0, 1).copy())]
    pixels = [llava().prepare(text="a", image=form)["pixel_values"] for form in forms]
    for other in pixels[1:]:
        assert torch.equal(pixels[0], other)


def test_grey_images_have_three_channels():
    grey = np.zeros((32, 32), dtype=np.uint8)
    for form in (grey, grey[..., None], grey[None]):
        assert llava().prepare(text="a", image=form)["pixel_values"].shape == (1, 3, 32, 32)


def test_an_image_for_a_text_model():
    assert "This model takes no image." in refusal(language(word_tokenizer()), text="a", image=picture())


def test_text_for_a_vision_model():
    subject = hw.wrap(CLIPVisionModel(CLIPVisionConfig(**VISION, **PATCHES)), CLIPImageProcessor())
    assert "This model takes no text." in refusal(subject, text="a")
    assert "no tokenizer" in refusal(subject, text="a", image=picture())


def test_an_image_without_image_processor():
    bare = hw.wrap(llava().model)
    assert "no image processor" in refusal(bare, text=[4], image=picture())
    assert "no image processor" in refusal(hw.wrap(bare.model, word_tokenizer()), text="a", image=picture())


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "image.png").write_bytes(b"not an image")
    assert "There is no file" in refusal(llava(), text="a", image="nowhere.png")
    assert "cannot be read as an image" in refusal(llava(), text="a", image=tmp_path / "image.png")


def test_arrays_that_are_no_images():
    assert "not an image" in refusal(llava(), text="a", image=np.zeros(5))
    assert "not between 0 and 1" in refusal(llava(), text="a", image=np.full((4, 4, 3), 7.0))
    assert "not between 0 and 1" in refusal(llava(), text="a", image=np.full((4, 4, 3), np.nan))


def test_kinds_that_differ_in_number():
    message = refusal(llava(), text=["a", "a"], image=[picture()] * 3)
    assert "2 text, 3 image" in message


def test_placeholders_and_images_that_differ_in_number():
    assert "processor refused" in refusal(llava(), text="<image> <image> a", image=picture())


def test_ids_with_an_image():
    assert "cannot be combined" in refusal(llava(), text=[4, 5], image=picture())


def test_a_batch_with_images_needs_a_padding_token():
    processor = llava_processor()
    processor.tokenizer.pad_token = None
    subject = llava(processor)
    assert "no padding token" in refusal(subject, text=["a", "a cat"], image=[picture()] * 2)
    subject.prepare(text="a", image=picture())


# Sound


def test_sound_from_arrays_and_files(tmp_path):
    samples, rate = tone()
    soundfile.write(tmp_path / "tone.wav", samples, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), rate, subtype="FLOAT")
    given = [(samples, rate), tmp_path / "tone.wav", str(tmp_path / "stereo.wav")]
    values = [wav2vec2().prepare(audio=form)["input_values"] for form in given]
    assert values[0].shape == (1, 8000)
    for other in values[1:]:
        torch.testing.assert_close(values[0], other)


def test_sound_is_resampled_to_the_rate_of_the_processor():
    samples, _ = tone(rate=8000)
    assert wav2vec2().prepare(audio=(samples, 8000))["input_values"].shape == (1, 8000)


def test_a_batch_of_sounds_is_padded():
    subject = wav2vec2()
    inputs = subject.prepare(audio=[tone(0.5), tone(0.25)])
    assert inputs["attention_mask"].sum(1).tolist() == [8000, 4000]
    subject.model(**inputs)


def test_whisper_hears_and_starts_with_its_prompt():
    subject = whisper()
    inputs = subject.prepare(audio=[tone(), tone()])
    assert inputs["input_features"].shape == (2, 16, 100)
    assert subject.layout(inputs).axes["decoder"].ids.tolist() == [[28, 29, 32, 33]] * 2
    told = {
        "input_features": inputs["input_features"],
        "decoder_input_ids": torch.tensor([[28, 29, 32, 33]] * 2),
    }
    assert torch.equal(subject.model(**inputs).logits, subject.model(**told).logits)
    assert len(subject.model.generate(**inputs, max_new_tokens=2, do_sample=False)) == 2


def test_whisper_targets_follow_its_prompt():
    inputs = whisper().prepare(audio=tone(), target="ab")
    assert inputs["decoder_input_ids"].tolist() == [[28, 29, 32, 33, 0, 1]]


def test_a_target_longer_than_the_decoder():
    assert "has 24 positions" in refusal(whisper(), audio=tone(), target="a" * 30)


def test_sound_longer_than_the_model_hears(tmp_path):
    encoder = hw.wrap(WhisperForAudioClassification(whisper().model.config), whisper().processor)
    assert "The sound lasts 2.0 s and the model hears 1 s" in refusal(encoder, audio=tone(2))
    assert "Sound 1 of the batch lasts 2.0 s" in refusal(encoder, audio=[tone(), tone(2)])
    samples, rate = tone(2)
    soundfile.write(tmp_path / "long.wav", samples, rate)
    assert "long.wav lasts 2.0 s" in refusal(encoder, audio=[tone(), tmp_path / "long.wav"])


def test_sound_for_a_text_model():
    assert "This model takes no audio." in refusal(language(word_tokenizer()), audio=tone())


def test_sound_that_cannot_be_read(tmp_path):
    (tmp_path / "tone.wav").write_bytes(b"not sound")
    assert "There is no file" in refusal(whisper(), audio="nowhere.wav")
    assert "cannot be read as sound" in refusal(whisper(), audio=tmp_path / "tone.wav")
    assert "without its rate" in refusal(whisper(), audio=np.zeros(100))
    assert "not a stretch of sound" in refusal(whisper(), audio=(np.zeros(0), 16000))
    assert "not a stretch of sound" in refusal(whisper(), audio=(np.full(9, np.nan), 16000))


def test_sound_without_feature_extractor():
    assert "no feature extractor" in refusal(hw.wrap(whisper().model), audio=tone())


def test_text_beside_sound():
    assert "target=" in refusal(whisper(), audio=tone(), text="ab")


def test_images_beside_sound():
    assert "cannot be combined" in refusal(llava(), text="a", image=picture(), audio=tone())
