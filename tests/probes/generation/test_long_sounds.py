"""Windows of long sounds are examples of their own; attempts that were given up and detected languages are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import headwise as hw
from headwise.subject.media import read_audio
from tests.probes.generation.test_examples import generate, prompt
from tests.tiny import ARCHITECTURES

if TYPE_CHECKING:
    from headwise import Trace


def long_sound(seconds: tuple[float, ...]) -> tuple[Any, dict[str, torch.Tensor]]:
    """zoo:speech, which hears three seconds at a time, and recordings of these lengths."""
    subject = hw.load("zoo:speech")
    clip = torch.as_tensor(read_audio(hw.zoo.sample("speech").inputs["audio"], 16000)).repeat(8)
    clip = clip + 0.01 * torch.randn(
        clip.shape, generator=torch.Generator().manual_seed(0)
    )  # no two windows alike
    waves = [clip[: int(16000 * length)].numpy() for length in seconds]
    sound = subject.processor.feature_extractor(
        waves,
        sampling_rate=16000,
        return_tensors="pt",
        truncation=False,
        padding="longest",
        return_attention_mask=True,
    )
    return subject, dict(sound)


def places_of(trace: Trace) -> list[tuple[int, float]]:
    """Recording and offset of every window."""
    axis = trace.layout.axes["encoder"]
    assert axis.recording is not None
    assert axis.offset is not None
    return list(zip(axis.recording.tolist(), axis.offset.tolist(), strict=True))


def transcribe(subject: Any, inputs: dict[str, Any], lengths: tuple[int, ...], **options: Any) -> Any:
    """A capture of the transcription of long recordings, and recording and offset of every window that was read."""
    reached: list[list[float]] = []
    with torch.no_grad(), torch.random.fork_rng(devices=()), hw.capture(subject) as trace:
        torch.manual_seed(0)
        subject.model.generate(
            **inputs,
            **options,
            return_timestamps=True,
            monitor_progress=lambda at: reached.append(at[:, 0].tolist()),
        )
    copies = options.get("num_return_sequences", 1)
    ends = [100 * length for length in lengths for _ in range(copies)]
    return trace, [
        (row // copies, frame / 100)
        for frames in reached
        for row, (frame, end) in enumerate(zip(frames, ends, strict=True))
        if frame < end
    ]


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "num_return_sequences": 2}])
def test_windows_of_long_sounds_know_their_recording_and_where_they_begin(options: dict[str, Any]) -> None:
    subject, inputs = long_sound((7.0, 4.0))
    trace, expected = transcribe(subject, inputs, (7, 4), **options)
    places = places_of(trace)
    assert [number for number, _ in places] == [number for number, _ in expected]
    assert [second for _, second in places] == pytest.approx([second for _, second in expected])
    assert trace.examples == len(places) > 4
    text = trace.layout.axes["decoder"]
    assert text.recording is not None
    assert text.recording.tolist() == [number for number, _ in places]


@pytest.mark.parametrize("ratio", [0.43, pytest.param(0.0, marks=pytest.mark.slow)])
def test_windows_that_are_read_again_are_one_example(ratio: float) -> None:
    """All windows are read twice more, or those alone whose text has more than the ratio of its compressed length."""
    subject, inputs = long_sound((7.0, 4.0))
    read: list[int] = []
    handle = subject.model.get_encoder().register_forward_hook(
        lambda _, args, output: read.append(len(output[0]))
    )
    options = {"temperature": (0.0, 0.0, 0.0), "compression_ratio_threshold": ratio}
    trace, expected = transcribe(subject, inputs, (7, 4), **options)
    handle.remove()
    assert sum(read) > len(expected)
    assert sorted((number, round(second, 2)) for number, second in places_of(trace)) == sorted(expected)
    assert trace.examples == len(expected) == len(trace.layout.axes["decoder"].roles)
    assert all(len(record["entropy"]) == len(expected) for record in trace.records.values())


@pytest.mark.parametrize("temperatures", [(0.0, 0.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("ratio", [0.1, 0.9])
def test_attempts_at_short_sounds_are_no_examples(temperatures: tuple[float, ...], ratio: float) -> None:
    subject = hw.load("zoo:speech")
    sound = read_audio(hw.zoo.sample("speech").inputs["audio"], 16000)
    features = subject.processor.feature_extractor(
        [sound, sound[: len(sound) // 2], sound], sampling_rate=16000, return_tensors="pt"
    )["input_features"]
    options = {"temperature": temperatures, "compression_ratio_threshold": ratio}
    with torch.no_grad(), hw.capture(subject) as trace:
        written = subject.model.generate(input_features=features, **options)
    assert trace.returned == tuple(range(len(written)))
    assert trace.examples == 3
    assert trace.layout.axes["encoder"].offset is None
    ids = trace.layout.axes["decoder"].ids
    assert ids is not None
    assert ids[0, 2:5].tolist() == written[0, :3].tolist()


def test_recordings_of_later_calls_are_numbered_on_and_short_sounds_are_whole() -> None:
    subject, inputs = long_sound((4.0,))
    with torch.no_grad(), hw.capture(subject) as trace:
        for _ in range(2):
            subject.model.generate(**inputs, return_timestamps=True)
    recording = trace.layout.axes["encoder"].recording
    assert recording is not None
    assert sorted(set(recording.tolist())) == [0, 1]
    short, inputs = long_sound((2.0,))
    inputs = short.prepare(audio=hw.zoo.sample("speech").inputs["audio"])
    with torch.no_grad(), hw.capture(short) as trace:
        short.model.generate(
            **{name: value for name, value in inputs.items() if not name.startswith("decoder")}
        )
    assert trace.layout.axes["encoder"].offset is None


def test_language_detection_is_no_example() -> None:
    from transformers import GenerationConfig

    model, inputs = ARCHITECTURES["whisper"].build(), prompt("whisper")
    start = model.config.decoder_start_token_id
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        pad_token_id=0,
        eos_token_id=9,
        max_length=20,
        is_multilingual=True,
        lang_to_id={"<|en|>": 11, "<|fr|>": 12},
        task_to_id={"transcribe": 13, "translate": 14},
        no_timestamps_token_id=15,
        forced_decoder_ids=None,
    )
    with hw.capture(model, maps=True) as trace:
        generate(model, inputs, eos_token_id=None, max_new_tokens=4)
    assert trace.examples == 2
    assert all(len(trace.maps[site]) == 2 for site in trace.sites)
    assert len(trace.positions[trace.site(0, "decoder")]) > 4
