"""Whisper base hears a public recording, and a capture of it is that of one forward."""

from __future__ import annotations

import re

import pytest
import torch

import headwise as hw

pytestmark = pytest.mark.slow


def plain(text: str) -> list[str]:
    """Words in lower case without marks; titles as they are spoken."""
    return re.sub(r"[^a-z ]", "", text.lower().replace("mr.", "mister").replace("-", " ")).split()


def test_recordings_are_written_word_for_word(real, recordings) -> None:
    jiwer = pytest.importorskip("jiwer", reason="pip install -e .[eval]")
    subject = real("whisper")
    replies = []
    for path, words in recordings.items():
        inputs = subject.prepare(audio=str(path), language="en")
        ids = subject.model.generate(**inputs, max_new_tokens=60)
        replies.append(plain(subject.tokenizer.decode(ids[0], skip_special_tokens=True)))
        if path.stem.endswith("0870"):
            assert replies[-1] == plain(words)
    wrong = jiwer.wer(
        [" ".join(plain(words)) for words in recordings.values()], [" ".join(one) for one in replies]
    )
    assert wrong < 0.1


@pytest.mark.filterwarnings("ignore:The model heard the language en")
@pytest.mark.parametrize("language", [None, "en"])
def test_a_transcription_is_captured_as_one_forward(language: str | None, real, recordings) -> None:
    subject = real("whisper")
    path, words = next(iter(recordings.items()))
    inputs = subject.prepare(audio=str(path))
    options = {} if language is None else {"language": language}
    with torch.no_grad(), hw.capture(subject, maps=True) as steps:
        ids = subject.model.generate(**inputs, max_new_tokens=60, **options)
    assert steps.examples == 1
    frame = steps.layout.to_frame()
    decoder = frame[frame["tower"] == "decoder"]
    read = torch.tensor([decoder["id"].to_list()], dtype=torch.long)
    text = subject.tokenizer.decode(read[0].tolist(), skip_special_tokens=True)
    assert plain(text) == plain(words)
    assert read[0, :4].tolist() == subject.tokenizer.convert_tokens_to_ids(
        ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    )
    assert set(read[0, 4:].tolist()) <= set(ids[0].tolist())
    with torch.no_grad(), hw.capture(subject, maps=True) as forward:
        subject.model(input_features=inputs["input_features"], decoder_input_ids=read)
    for site in forward.sites:
        torch.testing.assert_close(steps.maps[site], forward.maps[site], atol=1e-4, rtol=0, equal_nan=True)
    columns = ["tower", "position", "token", "start_seconds"]
    assert frame[columns].equals(forward.layout.to_frame()[columns])
    encoder = frame[frame["tower"] == "encoder"]
    sound = encoder[encoder["role"] == "audio"]
    assert abs(sound["end_seconds"].max() - 7.1) < 0.1
    assert set(encoder[encoder["position"] > sound["position"].max()]["role"]) == {"silence"}
