"""Converted models are the published ones, and headwise tells the truth about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from tests.real import convert_dinov2, packages
from tests.real.facts_encoders import REACTIONS, tokens_and_atoms
from tests.real.facts_smollm2 import PROSE
from tests.real.folders import MODELS

pytestmark = pytest.mark.slow


def picture() -> np.ndarray:
    """A photograph of a flower, 640 pixels wide."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images[1]


def inputs_of(name: str, subject: hw.Subject, recordings) -> dict:
    """What a person would give this model."""
    if name == "whisper":
        path, words = next(iter(recordings.items()))
        return dict(subject.prepare(audio=str(path), target=words, language="en"))
    if name == "dinov2":
        from PIL import Image

        return dict(subject.prepare(image=Image.fromarray(picture())))
    reaction = "".join(tokens_and_atoms(REACTIONS[0])[0])
    sentences = [reaction, reaction[:20]] if name == "rxnmapper" else PROSE.split(". ")
    return dict(subject.prepare(text=sentences))


@pytest.mark.parametrize("name", MODELS)
def test_doctor(name: str, real, recordings) -> None:
    subject = real(name)
    if name != "whisper":  # its made-up input takes as long as a recording
        assert hw.doctor(subject).problems == []
    found = hw.doctor(subject, inputs_of(name, subject, recordings))
    assert (found.problems, found.unreached) == ([], [])


def test_smollm2_knows_paris(real) -> None:
    subject = real("smollm2")
    inputs = subject.prepare(text="The capital of France is")
    with torch.no_grad():
        guess = subject.model(**inputs).logits[0, -1].argmax()
    assert subject.tokenizer.decode(guess) == " Paris"


def test_dinov2_equals_its_onnx_file(real) -> None:
    for module in ("onnx", "onnxruntime"):
        pytest.importorskip(module, reason="pip install -e .[real]")
    subject = real("dinov2")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        ours = subject.model(pixel_values=pixels).last_hidden_state.numpy()
    theirs = convert_dinov2.reference([packages.unpacked(packages.DINOV2)], pixels.numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_generated_reply_is_captured_as_one_forward(real) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real("smollm2").name, padding_side="left")
    subject = hw.wrap(real("smollm2").model, tokenizer)
    inputs = subject.prepare(
        text=["The capital of France is", "Once upon a time, in a town by the sea, there was"]
    )
    with torch.no_grad(), hw.capture(subject, maps=True) as steps:
        ids = subject.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    seen = ids[:, :-1]  # the last token is written and never read
    new = seen.shape[1] - inputs["input_ids"].shape[1]
    whole = {
        "input_ids": seen,
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, new), value=1),
    }
    # Generation numbers the real tokens; a forward that is not told to numbers the padding, too.
    whole["position_ids"] = (whole["attention_mask"].cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), hw.capture(subject, maps=True) as forward:
        subject.model(**whole)
    for site in forward.sites:
        torch.testing.assert_close(steps.maps[site], forward.maps[site], atol=1e-4, rtol=0, equal_nan=True)
    columns = ["example", "position", "token", "id"]
    frames = [trace.layout.to_frame() for trace in (steps, forward)]
    real_rows = [frame[frame["role"] != "padding"][columns].reset_index(drop=True) for frame in frames]
    assert real_rows[0][real_rows[0]["position"] < seen.shape[1]].equals(real_rows[1])
