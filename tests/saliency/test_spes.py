"""Saliency by hiding parts at random: known answers, a twin, masks, runs that stop, and bad input."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import headwise as hw
from headwise.errors import InputError
from headwise.fixes import MaskKeys, ZeroHeads
from headwise.functional.perturbation import frame_windows, hidden_means, pool_frames, scaled
from headwise.layout import ROLES
from headwise.probes.reply import Question, question
from headwise.saliency.explained import Explained
from headwise.saliency.masks import Spes, hidden_cells, perturbed
from headwise.saliency.segments import segments
from headwise.saliency.sound import sound_of
from headwise.saliency.spes import random_masks, spes
from headwise.testing import tiny_model
from tests.kit.deciders import ANSWER, PLACE, PROMPT, decider
from tests.tiny import ARCHITECTURES

FEW = Spes(masks=12, levels=(40, 80), shape="grid")


@pytest.fixture(scope="module")
def speech():
    return hw.load("zoo:speech")


@pytest.fixture(scope="module")
def spoken(speech):
    example = {**hw.zoo.sample("speech").inputs, "target": "six seven"}
    return Explained(question(speech, example, generate=8), "kl")


class TestHiddenMeans:
    def test_a_scorer_of_two_segments(self):
        """d = 1 where segment 3 is hidden and 0.5 where segment 10 is: 1.25, 1.0, and 0.75 for all others."""
        hidden = torch.rand(20_000, 50, generator=torch.Generator().manual_seed(0)) < 0.5
        effects = (hidden[:, 3] * 1.0 + hidden[:, 10] * 0.5)[:, None]
        found = hidden_means(effects, hidden)[0]
        expected = torch.full((50,), 0.75)
        expected[3], expected[10] = 1.25, 1.0
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
        above = scaled(found[None], effects)[0]
        assert above.argsort(descending=True)[:2].tolist() == [3, 10]
        assert above.median().abs() < 0.01

    def test_a_standard_map_has_mean_0_and_deviation_1(self):
        relevance = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0)) * 1e-3 + 5
        found = scaled(relevance, torch.ones(3, 2), scale="standard")
        far = relevance.numpy().astype(np.float64)
        far -= far.mean((1, 2), keepdims=True)
        np.testing.assert_allclose(found, far / far.std((1, 2), ddof=1, keepdims=True), atol=1e-5)
        assert scaled(torch.ones(1, 4), torch.ones(3, 1), scale="standard").tolist() == [[0.0] * 4]


class TestPooling:
    @pytest.mark.parametrize(("frames", "stride"), [(8, 4), (9, 4), (201, 4), (3, 2)])
    def test_one_hot_cell_marks_one_position(self, frames, stride):
        positions = -(-frames // stride)
        windows = frame_windows(frames, positions, stride=stride)
        for frame in range(frames):
            cells = torch.zeros(frames, 5)
            cells[frame, 2] = 1.0
            assert pool_frames(cells, windows).nonzero().flatten().tolist() == [frame // stride]

    def test_the_three_ways(self):
        cells, windows = torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[0, 2]])
        ways = {
            how: pool_frames(cells, windows, pooling=how).item() for how in ("max", "mean", "max of bands")
        }
        assert ways == {"max": 7.0, "mean": 4.0, "max of bands": 5.0}


class TestMasks:
    @pytest.mark.parametrize("shape", ["slic", "grid"])
    def test_segments_are_hidden_whole_and_half_of_the_time(self, shape):
        sound = np.random.default_rng(0).standard_normal((60, 20)).cumsum(0)
        options = Spes(masks=400, levels=(100, 300), shape=shape)
        labels = segments(sound, options.levels, shape=shape)
        assert all(set(np.unique(level)) == set(range(level.max() + 1)) for level in labels)
        hidden = torch.stack([hidden_cells(options, labels, mask) for mask in range(options.masks)])
        for mask, cells in enumerate(hidden):
            for segment in range(labels[mask % 2].max() + 1):
                assert len(cells[torch.from_numpy(labels[mask % 2] == segment)].unique()) == 1
        count = options.masks * (labels[0].max() + labels[1].max() + 2) / 2
        assert abs(hidden.float().mean() - 0.5) < 3 * 0.5 / count**0.5 + 0.01
        again = torch.stack([hidden_cells(options, labels, mask) for mask in range(options.masks)])
        assert torch.equal(hidden, again)
        assert not torch.equal(hidden_cells(replace(options, seed=1), labels, 0), hidden[0])

    def test_twin(self, spoken):
        """Every mask by itself, as a picture."""
        sound = sound_of(spoken)
        found = perturbed(sound, FEW, batch=5)
        sums, counts = np.zeros((2, *sound.frames.shape)), np.zeros(sound.frames.shape)
        for mask in range(FEW.masks):
            hidden = hidden_cells(FEW, found.labels, mask)
            features = spoken.question.inputs["input_features"].clone()
            heard = features[0].T[: len(sound.frames)]
            heard[hidden] = sound.frames.mean(0).expand_as(heard)[hidden]
            with torch.no_grad():
                changed = spoken.question.subject.model(
                    **{**spoken.question.inputs, "input_features": features}
                )
            changed = changed.logits[0, -2:].log_softmax(-1)
            far = (spoken.reference.exp() * (spoken.reference - changed)).sum(-1).numpy()
            assert (far > -1e-6).all()
            sums += far[:, None, None] * hidden.numpy()
            counts += hidden.numpy()
        np.testing.assert_allclose(found.map("raw"), sums / counts, rtol=1e-4, atol=1e-6)

    def test_padding_and_the_input_stay(self, spoken):
        sound, before = sound_of(spoken), spoken.question.inputs["input_features"].clone()
        assert len(sound.frames) < before.shape[-1]
        nothing = torch.zeros(2, *sound.frames.shape, dtype=torch.bool)
        assert sound.values(nothing, FEW).abs().max() < 1e-5
        sound.values(~nothing[:1], FEW)  # a single copy shares no memory with the input, either
        assert torch.equal(spoken.question.inputs["input_features"], before)
        pooled = spes(spoken, FEW)["encoder"]
        silent = spoken.question.layout.axes["encoder"].roles[0] == ROLES.index("silence")
        assert torch.equal(pooled.isnan(), silent.expand_as(pooled))

    def test_a_token_rests_on_nothing_behind_it(self, speech, spoken):
        one = Explained(
            question(speech, {**hw.zoo.sample("speech").inputs, "target": "six"}, generate=8), "kl"
        )
        torch.testing.assert_close(
            spes(one, FEW)["encoder"][0],
            spes(spoken, FEW)["encoder"][0],
            equal_nan=True,
            rtol=1e-3,
            atol=1e-5,
        )


@pytest.mark.parametrize("name", ["whisper", "speech_to_text"])
def test_frames_are_hidden_wherever_time_stands(name):
    """Whisper has time last, Speech2Text first."""
    row = ARCHITECTURES[name]
    inputs = {key: value[:1] for key, value in row.inputs["plain"]().items()}
    subject = hw.wrap(row.build())
    reply = tuple(inputs["decoder_input_ids"][0, -2:].tolist())
    asked = Explained(Question(subject, {}, reply, inputs, subject.layout(inputs)), "kl")
    sound = sound_of(asked)
    assert tuple(sound.frames.shape) == (40, 16)
    hidden = torch.zeros(1, 40, 16, dtype=torch.bool)
    hidden[0, 11, 3] = True
    features = inputs["input_features"].clone()
    (features if name == "speech_to_text" else features.transpose(1, 2))[0, 11, 3] = sound.frames[:, 3].mean()
    with torch.no_grad():
        logits = subject.model(**{**inputs, "input_features": features}).logits[0, -2:]
    expected = -(asked.reference.exp() * (asked.reference - logits.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(sound.values(hidden, FEW)[0], expected, rtol=1e-3, atol=1e-6)


class TestKnownAnswer:
    @pytest.mark.slow
    def test_the_stretch_that_decides_is_found(self):
        """Layers of the encoder add nothing, and cross-attention sees its positions 20 to 29: frames 40 to 59."""
        subject = hw.load("zoo:speech")
        model: Any = subject.model
        for layer in model.model.encoder.layers:
            for module in (layer.self_attn.out_proj, layer.fc2):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
        example = {**hw.zoo.sample("speech").inputs, "target": "six"}
        keys = [place for place in range(150) if place not in range(20, 30)]
        with hw.patch(subject, MaskKeys(keys=keys, kind="cross")):
            found = spes(
                Explained(question(subject, example, generate=4), "kl"), Spes(masks=120, shape="grid")
            )
        row = found["encoder"][0]
        inside = torch.zeros(150, dtype=torch.bool)
        inside[19:31] = True  # convolutions reach a frame or two beyond
        assert row[inside].nanmean() > 2.5 * row[~inside & ~row.isnan()].abs().mean()
        assert row.nan_to_num().argmax() in range(19, 31)

    @pytest.mark.parametrize("shown", [True, False])
    def test_random_masks_find_the_decisive_position(self, shown):
        example = Explained(
            question(hw.wrap(decider(shown=shown)), {"text": PROMPT, "reply": [ANSWER]}, generate=1), "logit"
        )
        assert random_masks(example, Spes(masks=200))["text"][0].argmax() == PLACE

    def test_random_masks_of_a_token_know_nothing_behind_it(self):
        subject = hw.wrap(tiny_model("gpt2"))
        short, long = (
            random_masks(Explained(question(subject, {"text": [5, 17, 23], "reply": reply}, generate=1)), FEW)
            for reply in ([7], [7, 30, 9])
        )
        torch.testing.assert_close(short["text"][0], long["text"][0, :3], rtol=1e-4, atol=1e-5)

    def test_outputs_of_the_encoder_alone(self, spoken):
        example = replace(spoken, at="encoder_output")
        found = spes(example, FEW)
        assert list(found) == ["encoder"]
        assert torch.equal(found["encoder"].isnan(), spes(spoken, FEW)["encoder"].isnan())


def run(subject, folder, *, example=None, **options):
    data = [example or {**hw.zoo.sample("speech").inputs, "target": "six seven"}]
    options = {"masks": 12, "levels": (40,), "shape": "grid", "batch_size": 4, **options}
    return hw.analyses.spectrogram_saliency(subject, data, folder=str(folder), **options).frame["saliency"]


STOPPED = """
import os, sys, signal
import headwise as hw
from tests.saliency.test_spes import run
def kill(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
run(hw.load("zoo:speech"), sys.argv[1], progress=kill)
"""


class TestStoppedRun:
    def test_it_goes_on_to_the_same_result(self, speech, tmp_path):
        def stop(done, total):
            if done == 8:
                raise KeyboardInterrupt

        whole = run(speech, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(speech, tmp_path / "part", progress=stop)
        told = []
        resumed = run(speech, tmp_path / "part", progress=lambda *done: told.append(done))
        assert told == [(12, 12)]
        assert resumed.equals(whole)
        again = run(speech, tmp_path / "part", progress=lambda *done: told.append(done))
        assert again.equals(whole)
        assert len(told) == 1

    @pytest.mark.slow
    def test_a_process_is_killed(self, speech, tmp_path):
        ended = subprocess.run([sys.executable, "-c", STOPPED, str(tmp_path)], check=False, timeout=200)
        assert ended.returncode == -9
        told = []
        resumed = run(speech, tmp_path, progress=lambda *done: told.append(done))
        assert told[0][0] > 4
        np.testing.assert_allclose(resumed, run(speech, tmp_path / "whole"), atol=1e-6)

    @pytest.mark.slow
    def test_the_size_of_a_batch_changes_nothing(self, speech, tmp_path):
        one, two = (run(speech, tmp_path / str(size), batch_size=size) for size in (5, 12))
        np.testing.assert_allclose(one, two, atol=1e-4)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"masks": 40}, "masks was 12 and is 40"),
            ({"target": "logit"}, "target was kl and is logit"),
            ({"seed": 3}, "seed was 0 and is 3"),
            ({"hide": 0.3}, "hide was 0.5 and is 0.3"),
            ({"example": {**hw.zoo.sample("speech").inputs, "target": "six five"}}, "last token was"),
            (
                {"example": {**hw.zoo.samples("speech", 2)[1].inputs, "target": "six seven"}},
                "input and reply was",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_another_run_is_refused(self, speech, tmp_path, change, named):
        run(speech, tmp_path)
        kept = (tmp_path / "0.safetensors").read_bytes()
        with pytest.raises(InputError, match=f"stopped run was another one.*{named}"):
            run(speech, tmp_path, **change)
        assert (tmp_path / "0.safetensors").read_bytes() == kept

    @pytest.mark.slow
    def test_another_model_is_refused(self, speech, tmp_path):
        run(speech, tmp_path)
        with (
            hw.patch(speech, ZeroHeads(heads=[(1, head) for head in range(4)], kind="cross")),
            pytest.raises(InputError, match="as with a fix"),
        ):
            run(speech, tmp_path)
        other: Any = hw.load("zoo:speech")
        with torch.no_grad():
            other.model.proj_out.weight.add_(0.1)
        with pytest.raises(InputError, match=r"another one.*model was Whisper\w+ \w+ float32 and is"):
            run(other, tmp_path)

    @pytest.mark.parametrize("place", [0, 200, -1])
    def test_a_damaged_file_is_refused(self, speech, tmp_path, place):
        run(speech, tmp_path)
        path = tmp_path / "0.safetensors"
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged|another one"):
            run(speech, tmp_path)


class TestBadInput:
    def test_silence(self, speech):
        with pytest.raises(InputError, match="The sound is silent"):
            hw.analyses.spectrogram_saliency(
                speech, [{"audio": (np.zeros(16_000, np.float32), 16_000), "target": "six"}]
            )

    def test_a_sound_beyond_the_window(self, speech):
        noise = np.random.default_rng(0).standard_normal(80_000).astype(np.float32) / 10
        with pytest.raises(InputError, match="longer than the window"):
            hw.analyses.spectrogram_saliency(speech, [{"audio": (noise, 16_000), "target": "six"}])

    def test_an_empty_sound(self, speech):
        with pytest.raises(InputError, match="not a stretch of sound"):
            hw.analyses.spectrogram_saliency(
                speech, [{"audio": (np.zeros(0, np.float32), 16_000), "target": "six"}]
            )

    def test_a_model_that_hears_nothing(self):
        with pytest.raises(InputError, match="no spectrogram to hide parts of"):
            hw.analyses.spectrogram_saliency(hw.load("zoo:nmt"), [{"text": "a", "target": "b"}])

    @pytest.mark.parametrize(
        "options", [{"masks": 1}, {"levels": ()}, {"levels": (1,)}, {"hide": 1.0}, {"seed": -1}], ids=str
    )
    def test_options_that_give_no_map(self, options):
        with pytest.raises(InputError, match=f"A map needs.*{next(iter(options))}="):
            Spes(**options)

    def test_without_scikit_image(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
        with pytest.raises(InputError, match=r"superpixels by skimage.*headwise\[saliency\]"):
            segments(np.zeros((50, 8)), [200])
