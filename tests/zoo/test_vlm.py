"""The recipe of zoo:vlm: batches, what is trained when, and a folder that plain transformers opens."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import headwise as hw
from headwise.zoo.data.drawing import BACKGROUND, COLORS, SHAPES
from headwise.zoo.data.scenes import caption, draw, pixels, scenes
from headwise.zoo.recipes import vlm
from headwise.zoo.recipes.vlm import VOCABULARY, VisionLanguage, processor, word_ids
from headwise.zoo.train import train

VISION, LANGUAGE = VisionLanguage.phases


class Short(VisionLanguage):
    """The same recipe, for a few steps."""

    phases = (replace(VISION, steps=3), replace(LANGUAGE, steps=4, keep={2: "early"}))
    sizes = MappingProxyType({"vision": 4, "language": 4})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train(Short(), tmp_path_factory.mktemp("zoo") / "vlm", device="cpu")


@pytest.fixture(scope="module")
def built():
    return VisionLanguage().build()[0]


def spell(ids) -> str:
    return " ".join(VOCABULARY[number] for number in ids)


def test_words_do_not_depend_on_case_and_spaces():
    tokenizer = processor().tokenizer
    plain = tokenizer("is there a circle in the image ?").input_ids
    for text in ("Is there a circle in the image?", "\nIS THERE a Circle  in the image ?"):
        assert tokenizer(text).input_ids == plain
    assert spell(plain) == "<bos> is there a circle in the image ?"
    assert tokenizer("a zebra.").input_ids == [vlm.BOS, *word_ids("a"), vlm.UNKNOWN, *word_ids(".")]


def test_training_reads_words_as_the_tokenizer_does():
    tokenizer = processor().tokenizer
    for one in scenes(20):
        assert [vlm.BOS, *word_ids(caption(one))] == tokenizer(caption(one)).input_ids


def test_training_sees_pictures_as_the_processor_does():
    one = scenes(1)[0]
    seen = processor()(images=draw(one, noise=2.0, seed=1), text="<image>", return_tensors="pt")
    expected = torch.from_numpy(pixels(one, noise=2.0, seed=1)).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(seen["pixel_values"][0], expected, atol=1e-6, rtol=0)
    assert seen["input_ids"][0].tolist() == [vlm.BOS] + [vlm.IMAGE] * vlm.IMAGE_TOKENS


def test_patches_have_the_words_of_their_cell():
    seen = scenes(20)
    words = vlm._patch_words(seen)
    for row, one in enumerate(seen):
        picture = pixels(one).reshape(6, 8, 6, 8, 3).swapaxes(1, 2).reshape(36, 64, 3)
        for patch, color, shape in zip(picture, words["colors"][row], words["shapes"][row], strict=True):
            assert (color == 0) == (shape == 0)
            drawn = patch[(patch != BACKGROUND).any(-1)]
            if len(drawn):
                assert (drawn == list(COLORS.values())[int(color) - 1]).all()
                assert SHAPES[int(shape) - 1] in one.shapes


@pytest.mark.parametrize("phase", [VISION, LANGUAGE], ids=lambda phase: phase.name)
def test_batches_depend_on_the_step_alone(phase):
    first, again, next_one = Short().batch(phase, 7), Short().batch(phase, 7), Short().batch(phase, 8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["pixel_values"], next_one["pixel_values"])


def test_rows_weigh_answers_and_captions_only():
    batch = VisionLanguage().batch(LANGUAGE, 0)
    kinds = set()
    for ids, weights, mask in zip(batch["input_ids"], batch["weights"], batch["attention_mask"], strict=True):
        words = [VOCABULARY[number] for number in ids]
        length = int(mask.sum())
        assert words[:37] == ["<bos>"] + ["<image>"] * 36
        assert set(words[length:]) <= {"<pad>"}
        assert weights[length:].sum() == 0
        answers = (weights == vlm.ANSWER).nonzero().flatten().tolist()
        kinds.add(bool(answers))
        assert len(answers) in (0, vlm.TURNS)
        assert all(words[n - 1] == "?" and words[n + 1] == "<eos>" for n in answers)
        if not answers:
            assert spell(ids[37:41]) == "describe the image :"
            assert weights[37:41].sum() == 0
            assert (weights[41:length] == vlm.CAPTION).all()
    assert kinds == {True, False}


def test_phases_train_what_they_say(built):
    named = {id(parameter): name for name, parameter in built.named_parameters()}
    first, second = (
        {named[id(parameter)] for parameter in VisionLanguage().parameters(built, phase)}
        for phase in VisionLanguage.phases
    )
    assert first | second == set(named.values())
    assert first & second == {"model.language_model.embed_tokens.weight"}
    assert not any("vision" in name or "projector" in name for name in second)


def test_model_is_small(built):
    assert sum(parameter.numel() for parameter in built.parameters()) * 2 < 2e6


def test_folder_opens_with_plain_transformers(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    reader = AutoProcessor.from_pretrained(folder)
    one, two = (draw(one, noise=1.0, seed=3) for one in scenes(2))
    texts = ["<image>\nIs there a circle in the image?", "<image> describe the image:"]
    together = reader(images=[one, two], text=texts, padding=True, return_tensors="pt")
    told = model.generate(**together, do_sample=False, num_beams=2)
    assert told.shape[1] <= together["input_ids"].shape[1] + 24
    with torch.no_grad():
        both = model(**together).logits[:, -1]
        for row, (picture, text) in enumerate(zip((one, two), texts, strict=True)):
            alone = reader(images=picture, text=text, return_tensors="pt")
            torch.testing.assert_close(model(**alone).logits[0, -1], both[row], atol=1e-4, rtol=1e-4)


def test_headwise_opens_the_folder_and_its_early_checkpoint(folder):
    for name in (folder, folder.with_name("vlm@early")):
        subject = hw.load(str(name), dtype=torch.float32)
        batch = subject.prepare(text="is there a circle ?", image=draw(scenes(1)[0]))
        assert spell(batch["input_ids"][0].tolist()[36:]) == "<image> is there a circle ?"
        assert batch["pixel_values"].shape == (1, 3, 48, 48)


def test_training_changes_what_it_should(folder):
    start = Short().build()[0].state_dict()
    early, final = (
        AutoModelForImageTextToText.from_pretrained(name, dtype=torch.float32).state_dict()
        for name in (folder.with_name("vlm@early"), folder)
    )
    moved = {name for name in final if not torch.equal(early[name], final[name])}
    assert moved
    assert not any("vision" in name or "projector" in name for name in moved)
    projector = "model.multi_modal_projector.linear_1.weight"
    assert not np.allclose(start[projector], final[projector], atol=1e-3)
