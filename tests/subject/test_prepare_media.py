"""Inputs with images and sound: what the processor makes of them, and what is refused."""

from __future__ import annotations

import numpy as np
import soundfile
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    WhisperForAudioClassification,
)

import headwise as hw
from tests.kit.subjects import (
    PATCHES,
    VISION,
    language,
    llava,
    llava_processor,
    picture,
    refusal,
    tone,
    wav2vec2,
    whisper,
    word_tokenizer,
)

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
