"""Encoder positions of speech models, their seconds, and Whisper's tags."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

import headwise as hw
from headwise.layout import ROLES, TokenLayout, describe
from headwise.probes.trace.fields import merge_layouts
from headwise.probes.trace.trace import Trace
from headwise.subject.media import read_audio
from tests.kit.subjects import tone, wav2vec2, whisper
from tests.tiny import ARCHITECTURES


def names(roles: torch.Tensor) -> list[str]:
    return [ROLES[role] for role in roles.tolist()]


def test_whisper_positions_last_20_ms():
    subject = whisper()
    axis = subject.layout(subject.prepare(audio=tone())).axes["encoder"]
    assert axis.roles.shape == (1, 50)
    assert set(names(axis.roles[0, :25])) == {"audio"}
    torch.testing.assert_close(axis.seconds[:2], torch.tensor([[0.0, 0.02], [0.02, 0.04]]))
    assert axis.seconds[-1, 1].item() == pytest.approx(1.0)


def test_whisper_tags():
    subject = whisper()
    tags = [28, 29, 32, 33, 34, 0, 27]  # start, en, transcribe, notimestamps, 0.00, a, end
    layout = subject.layout({"decoder_input_ids": torch.tensor([tags])})
    expected = ["bos", "language", "task", "task", "special", "content", "eos"]
    assert names(layout.axes["decoder"].roles[0]) == expected


def test_a_bare_whisper_knows_its_tags_from_its_generation_config():
    model = ARCHITECTURES["whisper"].build()
    model.generation_config.lang_to_id = {"<|en|>": 10}
    model.generation_config.task_to_id = {"transcribe": 20}
    model.generation_config.no_timestamps_token_id = 30
    layout = describe(model, None, {"decoder_input_ids": torch.tensor([[2, 10, 20, 30, 31, 5]])})
    expected = ["bos", "language", "task", "task", "special", "content"]
    assert names(layout.axes["decoder"].roles[0]) == expected


@pytest.mark.parametrize("length", [0.25, 0.5, 0.9])
def test_silence_behind_a_sound_is_told_by_the_mask_or_by_the_features(length):
    """With the mask of the extractor it is exact; without, the frames that the sound bleeds into are sound."""
    subject = whisper()
    extractor = subject.processor.feature_extractor
    wave, rate = tone(length)
    options = {"sampling_rate": rate, "return_tensors": "pt", "return_attention_mask": True}
    given = extractor([wave, tone(1.0)[0]], **options)
    masked = subject.layout(given).axes["encoder"]
    plain = subject.layout({"input_features": given["input_features"]}).axes["encoder"]
    silent = ROLES.index("silence")
    assert (masked.roles != silent).sum(1).tolist() == [math.ceil(length * 50), 50]
    bleed = (plain.roles != silent).sum(1) - (masked.roles != silent).sum(1)
    assert bleed[0].item() in (0, 1)
    assert bleed[1] == 0
    assert set(names(plain.roles[0])) == {"audio", "silence"}
    assert bool(plain.valid.all())  # the encoder attends to silence


def test_silence_is_still_known_when_the_decoder_writes():
    subject = whisper()
    inputs = subject.prepare(audio=tone())
    roles = subject.layout(inputs).axes["encoder"].roles
    with torch.no_grad(), hw.capture(subject, maps=True) as trace:
        subject.model.generate(inputs["input_features"], max_new_tokens=3)
    assert torch.equal(trace.layout.axes["encoder"].roles, roles)
    cross = next(site for site in trace.sites if site.kind == "cross")
    silence = trace.maps[cross][..., roles[0] == ROLES.index("silence")].sum(-1)
    record = trace.records[cross]["mass"][..., ROLES.index("silence")]
    torch.testing.assert_close(record, silence)
    heads = trace.to_frame("head")
    shares = heads[[name for name in heads if name.startswith("mass_")]].sum(axis=1)
    assert shares.to_numpy() == pytest.approx(1, abs=1e-5)


def test_states_of_a_speech_encoder_that_ran_before():
    subject = whisper()
    states = subject.model.get_encoder()(subject.prepare(audio=tone())["input_features"])
    axis = subject.layout({"encoder_outputs": states}).axes["encoder"]
    assert set(names(axis.roles[0])) == {"audio"}
    assert axis.seconds[-1, 1].item() == pytest.approx(1.0)


def test_the_hop_of_the_feature_extractor_sets_the_time():
    model = ARCHITECTURES["whisper"].build()
    extractor = WhisperFeatureExtractor(feature_size=16, hop_length=80)
    axis = describe(model, extractor, ARCHITECTURES["whisper"].inputs["plain"]()).axes["encoder"]
    assert axis.seconds[0, 1].item() == pytest.approx(0.01)


def test_padding_of_a_waveform():
    subject = wav2vec2()
    inputs = subject.prepare(audio=[tone(0.5), tone(0.25)])
    axis = subject.layout(inputs).axes["encoder"]
    assert axis.roles.shape == subject.model(**inputs).last_hidden_state.shape[:2]
    assert axis.valid.sum(1).tolist() == [399, 199]
    assert axis.seconds[0, 1].item() == pytest.approx(20 / 16000)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("whisper", 0.02),
        ("speech_to_text", 0.04),
        ("wav2vec2", 20 / 16000),
        ("hubert", 20 / 16000),
        ("moonshine", 384 / 16000),
    ],
)
def test_bare_speech_models(name, seconds):
    row = ARCHITECTURES[name]
    model, inputs = row.build(), row.inputs["plain"]()
    axis = describe(model, None, inputs).axes["encoder"]
    out = model(**inputs)
    states = out.encoder_last_hidden_state if "encoder_last_hidden_state" in out else out.last_hidden_state
    assert axis.roles.shape == states.shape[:2]
    assert axis.seconds[0, 1].item() == pytest.approx(seconds)


def test_sound_without_a_rule_for_its_positions_is_left_out():
    row = ARCHITECTURES["ast"]
    assert describe(row.build(), None, row.inputs["plain"]()).axes == {}


def test_seconds_in_the_frame():
    subject = whisper()
    frame = subject.layout(subject.prepare(audio=tone())).to_frame()
    sound = frame[frame["tower"] == "encoder"]
    assert sound["modality"].unique().tolist() == ["audio", "silence"]
    assert sound["start_seconds"].iloc[1] == pytest.approx(0.02)
    assert frame[frame["tower"] == "decoder"]["start_seconds"].isna().all()


def test_windows_know_their_recording_and_their_offset(tmp_path):
    """Also when their traces are merged, saved and read again."""
    subject = whisper()
    axis = subject.layout(subject.prepare(audio=[tone(), tone()])).axes["encoder"]
    windows = replace(axis, offset=torch.tensor([3.0, 6.0]), recording=torch.tensor([0, 0]))
    merged = merge_layouts([TokenLayout({"encoder": item}) for item in (windows, axis)])
    Trace({}, merged).save(tmp_path / "trace.safetensors")
    frame = hw.load_trace(tmp_path / "trace.safetensors").layout.to_frame()
    starts = frame[frame["position"] == 1].set_index("example")
    assert starts["start_seconds"].to_list() == pytest.approx([3.02, 6.02, 0.02, 0.02])
    assert starts["recording"].to_list() == [0, 0, 1, 2]
    assert "recording" not in TokenLayout({"encoder": axis}).to_frame()


def test_windows_of_long_sounds_are_placed_in_their_recordings():
    """Every call of generate hears recordings of its own."""
    subject = hw.load("zoo:speech")  # hears three seconds at a time
    clip = np.tile(read_audio(hw.zoo.sample("speech").inputs["audio"], 16000), 6)
    options = {
        "return_tensors": "pt",
        "truncation": False,
        "padding": "longest",
        "return_attention_mask": True,
    }
    expected = set()
    with torch.no_grad(), hw.capture(subject, check=False) as trace:
        for recording, seconds in enumerate((7, 4)):
            heard = subject.processor.feature_extractor(
                clip[: 16000 * seconds], sampling_rate=16000, **options
            )
            written = subject.model.generate(**heard, return_timestamps=True, return_segments=True)
            expected |= {(recording, round(float(part["start"]), 2)) for part in written["segments"][0]}
    frame = trace.layout.to_frame()
    first = frame[(frame["tower"] == "encoder") & (frame["position"] == 0)]
    assert {(row.recording, round(row.start_seconds, 2)) for row in first.itertuples()} >= expected
    assert len(expected) > 3
    text = trace.layout.axes["decoder"]
    assert text.recording is not None
    assert len(text.recording) == len(text.roles)
    assert set(text.recording.tolist()) == {0, 1}
