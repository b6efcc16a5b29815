"""Every model of the zoo behaves like one from the hub: this file drives them through plain transformers code.

headwise is used only to find the folders and the inputs.
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
)

from headwise.zoo import NAMES, sample, zoo_folder

LIMIT = 4e6
"""Bytes of one model's weights."""


def opened(auto, folder):
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def written(model, inputs, **options):
    options = {"max_new_tokens": 12, "do_sample": False, **options}
    with torch.no_grad():
        return model.generate(**inputs, **options)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_in_half_precision(name):
    folder = zoo_folder(name)
    assert (folder / "model.safetensors").stat().st_size <= LIMIT
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118


def test_the_zoo_is_small():
    whole = sum(path.stat().st_size for path in zoo_folder("lm").parent.parent.rglob("*") if path.is_file())
    assert whole <= 16e6


@pytest.fixture(scope="module", params=["lm", "lm@early"])
def language(request):
    folder = zoo_folder(request.param)
    return opened(AutoModelForCausalLM, folder), AutoTokenizer.from_pretrained(folder)


PROMPTS = ["The name of the file is", "Return a list of the names that are defined in the given module, and"]


def test_language_model_batches_like_single_prompts(language):
    model, tokenizer = language
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    assert batch["attention_mask"][0, 0] == 0, "the tokenizer pads on the left"
    together = written(model, batch)[:, batch["input_ids"].shape[1] :]
    for row, prompt in zip(together, PROMPTS, strict=True):
        one = tokenizer(prompt, return_tensors="pt")
        alone = written(model, one)[0, one["input_ids"].shape[1] :]
        assert tokenizer.decode(row, skip_special_tokens=True) == tokenizer.decode(
            alone, skip_special_tokens=True
        )


def test_language_model_uses_beams_and_survives_saving(language, tmp_path):
    model, tokenizer = language
    inputs = tokenizer(PROMPTS[:1], return_tensors="pt")
    beams = written(model, inputs, num_beams=3)
    assert beams.shape[1] > inputs["input_ids"].shape[1]
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, reader = opened(AutoModelForCausalLM, tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert torch.equal(written(again, reader(PROMPTS[:1], return_tensors="pt"), num_beams=3), beams)


@pytest.fixture(scope="module", params=["vlm", "vlm@early"])
def seeing(request):
    folder = zoo_folder(request.param)
    return opened(AutoModelForImageTextToText, folder), AutoProcessor.from_pretrained(folder)


def test_vision_language_model_answers_and_batches(seeing):
    model, processor = seeing
    shown = sample("vlm").inputs
    texts = [f"<image> {shown['text']}", "<image> describe the image :"]
    batch = processor(images=[shown["image"]] * 2, text=texts, return_tensors="pt", padding=True)
    together = written(model, batch)[:, batch["input_ids"].shape[1] :]
    answers = processor.batch_decode(together, skip_special_tokens=True)
    assert answers[0] in ("yes", "no")
    assert answers[1].startswith("a ")
    for text, answer in zip(texts, answers, strict=True):
        one = processor(images=shown["image"], text=text, return_tensors="pt")
        alone = written(model, one)[0, one["input_ids"].shape[1] :]
        assert processor.decode(alone, skip_special_tokens=True) == answer


def test_vision_language_model_uses_beams_and_survives_saving(seeing, tmp_path):
    model, processor = seeing
    ask = {
        "images": sample("vlm").inputs["image"],
        "text": "<image> describe the image :",
        "return_tensors": "pt",
    }
    beams = written(model, processor(**ask), num_beams=2)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reader = opened(AutoModelForImageTextToText, tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert torch.equal(written(again, reader(**ask), num_beams=2), beams)


@pytest.fixture(scope="module")
def listening():
    folder = zoo_folder("speech")
    return opened(AutoModelForSpeechSeq2Seq, folder), AutoProcessor.from_pretrained(folder)


def sounds():
    from headwise.zoo.data.clips import shipped_clips

    return [soundfile.read(clip.path, dtype="float32") for clip in shipped_clips()[:2]]


def test_speech_model_writes_what_it_hears_and_batches(listening):
    model, processor = listening
    waves = [wave for wave, _ in sounds()]
    assert {rate for _, rate in sounds()} == {16_000}
    batch = processor(waves, sampling_rate=16_000, return_tensors="pt")
    together = processor.batch_decode(written(model, batch), skip_special_tokens=True)
    for wave, text in zip(waves, together, strict=True):
        one = processor(wave, sampling_rate=16_000, return_tensors="pt")
        assert processor.batch_decode(written(model, one), skip_special_tokens=True) == [text]
        assert text.strip()


def test_speech_model_uses_beams_gives_times_and_survives_saving(listening, tmp_path):
    model, processor = listening
    inputs = processor(sounds()[0][0], sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    beams = written(model, inputs, num_beams=2)
    timed = written(model, inputs, return_token_timestamps=True)
    assert np.all(np.diff(timed["token_timestamps"][0].numpy()) >= 0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reader = opened(AutoModelForSpeechSeq2Seq, tmp_path), AutoProcessor.from_pretrained(tmp_path)
    inputs = reader(sounds()[0][0], sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    assert torch.equal(written(again, inputs, num_beams=2), beams)


@pytest.fixture(scope="module")
def translating():
    folder = zoo_folder("nmt")
    return opened(AutoModelForSeq2SeqLM, folder), AutoTokenizer.from_pretrained(folder)


def test_translation_model_translates_both_ways_and_batches(translating):
    model, tokenizer = translating
    german = tokenizer.convert_tokens_to_ids("deu_Latn")
    tokenizer.src_lang = "eng_Latn"
    phrases = ["Sunday, March 14, 2021", "Kenya"]
    batch = tokenizer(phrases, return_tensors="pt", padding=True)
    together = tokenizer.batch_decode(
        written(model, batch, forced_bos_token_id=german, max_new_tokens=40), skip_special_tokens=True
    )
    assert together == ["Sonntag, 14. März 2021", "Kenia"]
    one = tokenizer(phrases[1], return_tensors="pt")
    alone = written(model, one, forced_bos_token_id=german, max_new_tokens=40)
    assert tokenizer.batch_decode(alone, skip_special_tokens=True) == together[1:]
    tokenizer.src_lang = "deu_Latn"
    back = tokenizer(together[0], return_tensors="pt")
    english = tokenizer.convert_tokens_to_ids("eng_Latn")
    said = written(model, back, forced_bos_token_id=english, max_new_tokens=40)
    assert tokenizer.batch_decode(said, skip_special_tokens=True) == phrases[:1]


def test_translation_model_uses_beams_and_survives_saving(translating, tmp_path):
    model, tokenizer = translating
    tokenizer.src_lang = "eng_Latn"
    swahili = tokenizer.convert_tokens_to_ids("swh_Latn")
    inputs = tokenizer("Kenya", return_tensors="pt")
    beams = written(model, inputs, forced_bos_token_id=swahili, num_beams=3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, reader = opened(AutoModelForSeq2SeqLM, tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert reader("Kenia", text_target="Kenya")["labels"] == tokenizer("Kenia", text_target="Kenya")["labels"]
    assert torch.equal(
        written(again, reader("Kenya", return_tensors="pt"), forced_bos_token_id=swahili, num_beams=3), beams
    )
