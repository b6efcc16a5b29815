"""Spoken commands: what the splits share, the noise, the times of the words, and the clips that are shipped."""

import itertools
import random

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.zoo.data import clips, synthesis, utterances
from headwise.zoo.data.utterances import RATE, VOICES, WORDS, Clip

speaks = pytest.mark.skipif(
    not synthesis.available(), reason="needs espeak-ng: pip install espeakng-loader, or the system package"
)
SPLITS = ("train", "validation", "test")
SHIPPED = clips.shipped_clips()
HELD_OUT = clips.held_out()


def test_no_voice_belongs_to_two_splits():
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(VOICES[one]) & set(VOICES[other])
    assert all(len(set(voices)) == len(voices) for voices in VOICES.values())


@pytest.mark.parametrize("split", SPLITS)
@given(seed=st.integers(0, 2**32))
def test_a_script_stays_in_its_split_and_is_the_same_for_the_same_seed(split, seed):
    script = utterances.script(random.Random(seed), split)
    assert utterances.split_of(script.text) == split
    assert script.voice.partition("+")[2] in VOICES[split]
    assert set(script.text.split()) <= set(WORDS)
    assert script == utterances.script(random.Random(seed), split)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_word_is_said(split):
    rng = random.Random(0)
    said = {word for _ in range(3000) for word in utterances.sentence(rng, split).split()}
    assert said == set(WORDS)


def test_splits_by_hand():
    sentences = ("two three", "channel five four", "garden lights red")
    assert [utterances.split_of(sentence) for sentence in sentences] == ["train", "test", "test"]


def _tone(snr: float = 20.0, seed: int = 3) -> Clip:
    """One second of a tone between two half seconds of silence, as one word."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    samples = np.pad(tone, RATE // 2).astype(np.float32)
    return Clip(samples, ("beep",), ((0.5, 1.5),), "en+m7", snr, seed)


@given(snr=st.floats(-10, 60), seed=st.integers(0, 2**31 - 1))
def test_noise_has_the_power_it_is_said_to_have(snr, seed):
    clip = _tone(seed=seed)
    noise = clip.noisy(snr).astype(float) - clip.samples
    measured = 10 * np.log10(0.125 / np.mean(noise**2))
    assert measured == pytest.approx(snr, abs=0.3)


def test_noise_is_the_same_every_time_and_leaves_the_clip_alone():
    clip, before = _tone(), _tone().samples
    np.testing.assert_array_equal(clip.noisy(), clip.noisy(20.0))
    np.testing.assert_array_equal(clip.samples, before)
    assert not np.array_equal(clip.noisy(), _tone(seed=4).noisy())


def test_shipped_clips_are_of_the_test_split_and_their_words_lie_in_the_sound():
    for clip in [*SHIPPED, *HELD_OUT]:
        assert clip.variant in VOICES["test"]
        assert utterances.split_of(clip.text) == "test"
        assert len(clip.words) == len(clip.spans)
        edges = [clip.spans[0][0], *(end for _, end in clip.spans)]
        assert edges == sorted(edges)
        assert [start for start, _ in clip.spans[1:]] == [end for _, end in clip.spans[:-1]]
        assert edges[0] >= 0
        assert edges[-1] <= len(clip.samples) / RATE + 0.001
        assert len(clip.samples) <= utterances.SECONDS * RATE
        first, last = int(edges[0] * RATE), int(edges[-1] * RATE) + 16
        outside = [*clip.samples[:first], *clip.samples[last:]]
        assert np.mean(clip.samples[first:last] ** 2) > 0.0001
        assert np.abs(outside).max(initial=0) < 0.01, (clip, np.abs(outside).max())


def test_shipped_examples_are_short_flac_files_of_every_test_voice():
    assert {clip.variant for clip in SHIPPED} == set(VOICES["test"])
    for clip in SHIPPED:
        about = soundfile.info(clip.path)
        assert (about.format, about.samplerate, about.channels) == ("FLAC", RATE, 1)
        assert about.frames == len(clip.samples)
    assert sum(clip.path.stat().st_size for clip in SHIPPED) <= 700_000
    assert sum(path.stat().st_size for path in clips.FOLDER.iterdir()) <= 1_500_000


def test_the_held_out_set_is_balanced_over_voices_and_repeats_no_clip():
    counts = {voice: sum(clip.variant == voice for clip in HELD_OUT) for voice in VOICES["test"]}
    assert set(counts.values()) == {70}
    assert len({clip.seed for clip in HELD_OUT}) == len(HELD_OUT)


@speaks
def test_what_is_shipped_can_be_spoken_again(tmp_path):
    clips.write(tmp_path, examples=1, held_out=2)
    again = clips.held_out(tmp_path)
    first = {clip.seed: clip for clip in HELD_OUT}
    assert len(again) == 10
    for clip in again:
        shipped = first[clip.seed]
        assert (clip.text, clip.voice, clip.snr) == (shipped.text, shipped.voice, shipped.snr)
        np.testing.assert_allclose(clip.spans, shipped.spans, atol=0.05)  # other versions differ a little
    assert len(clips.shipped_clips(tmp_path)) == 5


@speaks
@pytest.mark.parametrize("split", SPLITS)
def test_clips_have_one_span_per_word_inside_the_sound(split):
    for clip in utterances.clips(split, 8, seed=5):
        assert len(clip.spans) == len(clip.words)
        assert all(start < end for start, end in clip.spans)
        assert clip.spans[-1][1] <= len(clip.samples) / RATE + 0.001
        assert 0.19 <= np.abs(clip.samples).max() <= 0.81
        assert clip.samples.dtype == np.float32


@speaks
def test_a_word_begins_where_the_words_before_it_end():
    with synthesis.Synthesiser() as espeak:
        alone, pair = (espeak.say(text, voice="en-us+m3") for text in ("seven", "seven zero"))
    assert pair.starts[1] == pytest.approx(len(alone.samples) / alone.rate, abs=0.15)


@speaks
def test_an_unknown_voice_is_named():
    with synthesis.Synthesiser() as espeak, pytest.raises(InputError, match="no such voice"):
        espeak.say("one", voice="nobody")


def test_without_a_synthesiser_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(synthesis, "_find", lambda: None)
    assert not synthesis.available()
    with pytest.raises(InputError, match="pip install espeakng-loader"):
        next(utterances.clips("train", 1))


def test_no_clips_are_an_error():
    with pytest.raises(InputError, match="nothing to say"):
        next(utterances.clips("train", 0))
