"""Whisper as it is published: language and task, given or detected, in forward and in `generate`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from headwise.subject.media import read_audio
from headwise.subject.prepare import prepare
from headwise.subject.speech_prompt import detect_languages, heard_note
from tests.kit.subjects import multilingual_whisper, tone, wav2vec2, whisper

START, ENGLISH, FRENCH, TRANSLATE, TRANSCRIBE, NO_TIMES = 28, 29, 30, 31, 32, 33


HEARD = pytest.mark.filterwarnings("ignore:The model heard the language")


def sounds():
    samples, rate = tone(0.7)
    noise = np.random.default_rng(0).normal(size=samples.shape).astype(np.float32)
    return [(samples, rate), (noise, rate)]


def prompts(subject, inputs):
    return subject.layout(inputs).axes["decoder"].ids.tolist()


def begun(subject, inputs, **options):
    """The decoder's ids in the first forward of a `generate` that ends with it."""
    seen = []
    forward = subject.model.model.decoder.forward

    def watched(*args, **kwargs):
        seen.append(kwargs["input_ids"].tolist())
        return forward(*args, **kwargs)

    subject.model.model.decoder.forward = watched
    try:
        subject.model.generate(**inputs, max_new_tokens=1, do_sample=False, **options)
    finally:
        del subject.model.model.decoder.forward
    return seen[-1]


@pytest.mark.parametrize(("language", "token"), [("fr", FRENCH), ("English", ENGLISH), ("<|fr|>", FRENCH)])
@pytest.mark.parametrize(("task", "tag"), [(None, TRANSCRIBE), ("translate", TRANSLATE)])
def test_language_and_task_that_are_given(language, token, task, tag):
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=sounds()[0], language=language, task=task)
    assert inputs["decoder_input_ids"].tolist() == [[START, token, tag, NO_TIMES]]
    assert begun(subject, inputs) == [[START, token, tag, NO_TIMES]]
    assert subject.model(**inputs).logits.shape[1] == 4


def test_a_language_for_each_sound():
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=sounds(), language=["fr", "en"])
    assert inputs["decoder_input_ids"][:, 1].tolist() == [FRENCH, ENGLISH]
    with pytest.raises(hw.InputError, match="2 sounds, 1 languages"):
        subject.prepare(audio=sounds(), language=["fr"])


def test_a_language_that_is_not_given_is_detected_by_the_model():
    subject = multilingual_whisper()
    prepared = prepare(subject, audio=sounds())
    detected = subject.model.detect_language(input_features=prepared.batch["input_features"])
    names = {ENGLISH: "en", FRENCH: "fr"}
    assert prompts(subject, prepared.batch) == [[START, int(one), TRANSCRIBE, NO_TIMES] for one in detected]
    languages = dict.fromkeys(names[int(one)] for one in detected)
    assert prepared.notes == (heard_note(list(languages)),)
    with pytest.warns(UserWarning, match=r"heard the language.*language= or --language"):
        subject.prepare(audio=sounds())
    assert prepare(subject, audio=sounds()[0], language="fr").notes == ()
    subject.prepare(audio=sounds()[0], language="fr")  # a warning is an error here
    given = {**prepared.batch, "decoder_input_ids": torch.tensor(prompts(subject, prepared.batch))}
    given.pop("labels")
    assert torch.equal(subject.model(**prepared.batch).logits, subject.model(**given).logits)


@HEARD
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(("task", "tag"), [("transcribe", TRANSCRIBE), ("translate", TRANSLATE)])
def test_generate_obeys_what_it_is_asked(language, task, tag):
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=sounds()[0])
    token = {"en": ENGLISH, "fr": FRENCH}[language]
    assert begun(subject, inputs, language=language, task=task) == [[START, token, tag, NO_TIMES]]
    timed = begun(subject, inputs, language=language, task=task, return_timestamps=True)
    assert timed == [[START, token, tag]]
    plain = subject.model.generate(
        input_features=inputs["input_features"],
        max_new_tokens=6,
        do_sample=False,
        language=language,
        task=task,
    )
    with hw.capture(subject) as trace:
        written = subject.model.generate(
            **inputs, max_new_tokens=6, do_sample=False, language=language, task=task
        )
    assert torch.equal(plain, written)
    assert trace.layout.axes["decoder"].ids[0, :4].tolist() == [START, token, tag, NO_TIMES]


@HEARD
def test_forward_is_captured_with_the_prompt_that_labels_tell():
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=sounds())
    with hw.capture(subject, maps=True) as trace, torch.no_grad():
        subject.model(**inputs)
    axis = trace.layout.axes["decoder"]
    assert axis.ids.tolist() == prompts(subject, inputs)
    assert trace.examples == 2


@HEARD
def test_detection_is_not_part_of_a_capture():
    subject = multilingual_whisper()
    with hw.capture(subject, maps=True) as trace, torch.no_grad():
        subject.model(**subject.prepare(audio=sounds()[0]))
    assert trace.examples == 1
    assert trace.layout.axes["decoder"].ids.shape == (1, 4)


@HEARD
def test_a_target_follows_the_prompt_of_its_language():
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=sounds(), target=["ab", "abc"], language="fr")
    front = [START, FRENCH, TRANSCRIBE, NO_TIMES]
    assert inputs["decoder_input_ids"].tolist() == [[*front, 0, 1, 27], [*front, 0, 1, 2]]
    assert inputs["decoder_attention_mask"][0].tolist() == [1] * 6 + [0]
    codes = detect_languages(subject, inputs["input_features"], START)
    detected = subject.prepare(audio=sounds(), target=["ab", "abc"])["decoder_input_ids"]
    assert detected[:, 1].tolist() == [{"en": ENGLISH, "fr": FRENCH}[code] for code in codes]


def test_what_the_tokenizer_or_the_generation_config_says_counts_as_given():
    subject = multilingual_whisper()
    subject.tokenizer.set_prefix_tokens(language="french", task="translate")
    assert prompts(subject, subject.prepare(audio=sounds()[0])) == [[START, FRENCH, TRANSLATE, NO_TIMES]]
    subject.model.generation_config.language = "en"
    assert prompts(subject, subject.prepare(audio=sounds()[0]))[0][1] == ENGLISH


def test_prepare_for_generate_alone():
    inputs = multilingual_whisper().prepare(audio=sounds()[0], decoder=False)
    assert set(inputs) == {"input_features"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"language": "de"}, "no language 'de'.*it has: en, fr"),
        ({"language": "klingon"}, "no language 'klingon'"),
        ({"task": "sing"}, "no task 'sing'.*transcribe or translate"),
    ],
)
def test_languages_and_tasks_that_there_are_not(asked, message):
    with pytest.raises(hw.InputError, match=message):
        multilingual_whisper().prepare(audio=sounds()[0], **asked)


def test_models_that_are_told_no_language():
    english = whisper()
    english.model.generation_config.is_multilingual = False
    with pytest.raises(hw.InputError, match="knows one language"):
        english.prepare(audio=sounds()[0], language="en")
    with pytest.raises(hw.InputError, match="not told a language"):
        wav2vec2().prepare(audio=sounds()[0], language="en")


def test_a_recording_longer_than_the_window():
    subject = multilingual_whisper()
    inputs = subject.prepare(audio=[tone(2.5), tone(0.5)])
    assert inputs["input_features"].shape == (2, 16, 250)
    assert inputs["attention_mask"].sum(1).tolist() == [250, 50]
    assert set(inputs) == {"input_features", "attention_mask"}
    written = subject.model.generate(**inputs, return_timestamps=True, max_new_tokens=6, do_sample=False)
    assert len(written) == 2
    for asked in ({"target": ["a", "a"]}, {"language": "en"}):
        with pytest.raises(hw.InputError, match="longer than the window"):
            subject.prepare(audio=[tone(2.5), tone(0.5)], **asked)


def test_a_pipeline_without_options_under_capture_and_patch():
    from transformers import pipeline

    subject = hw.load("zoo:speech")
    clip = read_audio(hw.zoo.sample("speech").inputs["audio"], 16000)
    heard = lambda: {"raw": clip, "sampling_rate": 16000}  # noqa: E731 (a pipeline empties what it is given)
    parts = {"tokenizer": subject.tokenizer, "feature_extractor": subject.processor.feature_extractor}
    recogniser = pipeline("automatic-speech-recognition", model=subject.model, **parts)
    plain = recogniser(heard())
    assert plain["text"].split()
    with hw.capture(subject) as trace:
        assert recogniser(heard()) == plain
    assert trace.sites
    with hw.patch(subject, hw.fixes.ScaleHeads(heads=((0, 0),), factor=1.0)):
        assert recogniser(heard()) == plain


@pytest.mark.parametrize("patched", [False, True])
def test_token_timestamps_under_capture_and_patch(patched):
    subject = multilingual_whisper()
    subject.model.generation_config.alignment_heads = [[0, 0], [0, 1]]
    inputs = subject.prepare(audio=sounds()[0], decoder=False)
    options = {"return_token_timestamps": True, "language": "en", "max_new_tokens": 6, "do_sample": False}
    mute = hw.fixes.ZeroHeads(heads=((0, 0), (0, 1)))
    plain = subject.model.generate(**inputs, **options)
    with hw.capture(subject) as trace:
        captured = subject.model.generate(**inputs, **options)
    assert torch.equal(plain["sequences"], captured["sequences"])
    torch.testing.assert_close(plain["token_timestamps"], captured["token_timestamps"])
    assert trace.examples == 2  # untrained, it ends its first window at a time of its own
    if patched:
        without = {name: value for name, value in options.items() if name != "return_token_timestamps"}
        with hw.patch(subject, mute):
            timed = subject.model.generate(**inputs, **options)["sequences"]
            untimed = subject.model.generate(**inputs, **without)
        assert torch.equal(timed, untimed)
