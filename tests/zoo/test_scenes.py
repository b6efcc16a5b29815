"""Drawn scenes: the truth that comes with them is the truth of the pixels, and no split leaks."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headwise.errors import InputError
from headwise.zoo.data.drawing import BACKGROUND, COLORS, SHAPES, noisy, stencil
from headwise.zoo.data.questions import (
    NEGATIVES,
    NUMBERS,
    absent,
    ask,
    by_frequency,
    coco_instances,
    expected,
    file_name,
    pope_lines,
    pope_pair,
)
from headwise.zoo.data.scenes import (
    SPLITS,
    Scene,
    SceneObject,
    boxes,
    caption,
    draw,
    masks,
    pixels,
    scene,
    scenes,
    successor,
    together,
)

HAND = Scene((SceneObject("square", "red", 0, 1, 2), SceneObject("cross", "blue", 8, 32, 34)))
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("split", SPLITS)
def test_scene_belongs_to_its_split(split):
    rng = random.Random(0)
    assert {scene(rng, split).split for _ in range(50)} == {split}


def test_split_ignores_order_and_offsets():
    for one in scenes(30):
        shifted = tuple(replace(item, x=item.x + 1) for item in one.objects)
        assert Scene(one.objects[::-1]).split == Scene(shifted).split == one.split


def test_splits_have_their_shares():
    rng = random.Random(0)
    drawn = [one for split in SPLITS for one in (scene(rng, split) for _ in range(200))]
    assert len({(tuple(sorted(one.objects)), one.split) for one in drawn}) > 590
    rng = random.Random(1)
    tenths = Counter(
        Scene(
            tuple(SceneObject(*pick) for pick in [(rng.choice(SHAPES), rng.choice(list(COLORS)), n, 0, 0)])
        ).split
        for n in range(4000)
    )
    assert 0.07 < tenths["test"] / 4000 < 0.13
    assert 0.07 < tenths["validation"] / 4000 < 0.13


def test_unknown_split_is_refused():
    with pytest.raises(InputError, match="train, validation, test"):
        scene(random.Random(0), "dev")


def test_scenes_are_different_and_begin_alike():
    many = scenes(300)
    contents = {frozenset((item.shape, item.color, item.cell) for item in one.objects) for one in many}
    assert len(contents) == 300
    assert scenes(40) == many[:40]
    assert scenes(5, seed=1) != many[:5]


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_every_object_has_its_own_shape_and_cell(seed):
    one = scene(random.Random(seed))
    assert 2 <= len(one.objects) <= 4
    assert len(set(one.shapes)) == len({item.cell for item in one.objects}) == len(one.objects)
    for item in one.objects:
        assert (item.y // 16, item.x // 16) == divmod(item.cell, 3)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_masks_and_boxes_are_those_of_the_pixels(seed):
    one = scene(random.Random(seed))
    picture, covered = pixels(one), masks(one)
    assert covered.sum(0).max() == 1
    assert (picture[~covered.any(0)] == BACKGROUND).all()
    for item, mask, (x, y, width, height) in zip(one.objects, covered, boxes(one), strict=True):
        assert (picture[mask] == COLORS[item.color]).all()
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
        assert mask[y].any()
        assert mask[y + height - 1].any()
        assert mask[:, x].any()
        assert mask[:, x + width - 1].any()


def test_boxes_by_hand():
    assert boxes(HAND).tolist() == [[1, 2, 14, 14], [32, 34, 14, 14]]
    assert masks(HAND).sum((1, 2)).tolist() == [196, 96]


def test_shapes_are_told_apart_by_their_pixels():
    outlines = np.stack([stencil(shape) for shape in SHAPES])
    assert min((a != b).sum() for n, a in enumerate(outlines) for b in outlines[:n]) >= 30


def test_caption_by_hand():
    assert caption(HAND) == "a red square and a blue cross."


def test_noise_is_seeded_and_zero_changes_nothing():
    assert np.array_equal(np.asarray(draw(HAND)), pixels(HAND))
    assert np.array_equal(noisy(pixels(HAND), noise=0.0, seed=3), pixels(HAND))
    assert np.array_equal(pixels(HAND, noise=1.0, seed=3), pixels(HAND, noise=1.0, seed=3))
    assert not np.array_equal(pixels(HAND, noise=1.0, seed=3), pixels(HAND, noise=1.0, seed=4))


def test_noise_has_a_strength_between_zero_and_its_level():
    grey = np.full((60, 60, 3), 128, dtype=np.uint8)
    strengths = [(noisy(grey, noise=0.2, seed=seed) / 127.5 - 1).std() for seed in range(200)]
    assert max(strengths) < 0.206
    assert min(strengths) < 0.01
    assert np.mean(strengths) == pytest.approx(0.1, abs=0.015)


def test_pictures_survive_a_file(tmp_path):
    draw(HAND, noise=2.0, seed=5).save(tmp_path / "scene.png")
    with Image.open(tmp_path / "scene.png") as back:
        assert np.array_equal(np.asarray(back), pixels(HAND, noise=2.0, seed=5))


def test_objects_keep_company():
    many = scenes(800, split="train")
    follows = sum(successor(shape) in one.shapes for one in many for shape in one.shapes)
    others = sum(
        other in one.shapes
        for one in many
        for shape in one.shapes
        for other in SHAPES
        if other not in (shape, successor(shape), SHAPES[SHAPES.index(shape) - 1])
    )
    present = sum(len(one.shapes) for one in many)
    assert follows / present > 2 * others / (5 * present)


def test_probabilities_are_those_of_the_generator():
    exact, counted = together(), np.zeros((len(SHAPES), len(SHAPES)))
    rng = random.Random(0)
    for _ in range(4000):
        numbers = [SHAPES.index(shape) for shape in scene(rng).shapes]
        counted[np.ix_(numbers, numbers)] += 1
    assert np.abs(counted / 4000 - exact).max() < 0.03
    assert exact.diagonal().sum() == pytest.approx(3)
    assert by_frequency()[0] == SHAPES[exact.diagonal().argmax()] == "star"


@settings(max_examples=50, deadline=None)
@given(seeds, st.sampled_from(["yes", *NEGATIVES, "color", "count"]))
def test_answers_are_true(seed, kind):
    rng = random.Random(seed)
    one = scene(rng)
    question = ask(one, kind, rng)
    if kind == "count":
        assert NUMBERS.index(question.answer) == len(one.objects)
        return
    assert question.shape in question.text
    if kind == "color":
        assert (question.shape, question.answer) in [(item.shape, item.color) for item in one.objects]
    else:
        assert (question.shape in one.shapes) == (question.answer == "yes") == (kind == "yes")


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_expected_shapes_follow_a_present_one(seed):
    one = scene(random.Random(seed))
    assert expected(one)
    for shape in expected(one):
        assert shape not in one.shapes
        assert SHAPES[SHAPES.index(shape) - 1] in one.shapes


def test_absent_shapes_by_hand():
    assert absent(HAND, "random") == ("star", "ring", "heart", "circle", "triangle", "moon")
    assert absent(HAND, "popular") == ("star",)
    company = together()[SHAPES.index("square")] + together()[SHAPES.index("cross")]
    assert company[SHAPES.index("star")] > company[SHAPES.index("triangle")] > company[SHAPES.index("ring")]
    assert absent(HAND, "adversarial") == ("star",)
    assert expected(HAND) == ("star", "triangle")
    with pytest.raises(InputError, match="random, popular, adversarial"):
        absent(HAND, "hard")
    with pytest.raises(InputError, match="random, popular, adversarial"):
        ask(HAND, "hard", random.Random(0))


def test_pope_asks_the_same_positive_in_every_split():
    one = scenes(1)[0]
    assert len({pope_pair(one, split=split, seed=4)[0] for split in NEGATIVES}) == 1


def test_pope_lines_by_hand():
    first, second = json.loads(json.dumps(pope_lines([HAND], split="popular")))
    assert (first["question_id"], first["image"], first["label"]) == (1, file_name(0), "yes")
    assert first["text"] in ("Is there a square in the image?", "Is there a cross in the image?")
    text = "Is there a star in the image?"
    assert second == {"question_id": 2, "image": file_name(0), "text": text, "label": "no"}


def test_coco_instances_by_hand():
    made = json.loads(json.dumps(coco_instances([HAND])))
    assert made["images"] == [{"id": 0, "file_name": "scene_000000.png", "width": 48, "height": 48}]
    assert made["annotations"][1] == {
        "id": 2,
        "image_id": 0,
        "category_id": 4,
        "iscrowd": 0,
        "bbox": [32, 34, 14, 14],
        "area": 96,
    }
    assert made["categories"][3] == {"id": 4, "name": "cross"}
