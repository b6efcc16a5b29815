"""What fixes are fitted on is never what they are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

import headwise.zoo.data.scenes as scenes_module
from headwise.errors import InputError
from headwise.evaluation import Example, find_task, task_names
from headwise.evaluation.data.splits import unseen
from headwise.evaluation.tasks.language.recall import Copying
from tests.helpers_compare import Next

SCENES = ("chair", "pope-random", "scene-color", "scene-count", "scene-existence", "vqa", "yes-no")


def content(example):
    """What is asked, as a comparable value; pictures by their bytes."""
    image = example.inputs.get("image")
    images = image if isinstance(image, list) else [image]
    seen = tuple(item.tobytes() for item in images if item is not None)
    return str(example.inputs.get("text")), seen, example.id if "audio" in example.inputs else ""


@pytest.mark.parametrize("name", task_names())
def test_no_registered_task_validates_with_what_it_tests(name):
    way = {"source": "en", "target": "sw"} if name == "alignment" else {}  # links of all take seconds
    task = find_task(name, **way)
    test = task.draw(60, 0)
    found = task.validation(25, 0, besides=test)
    assert len({example.id for example in found}) == 25
    assert {example.id for example in found}.isdisjoint(example.id for example in test)
    if not name.startswith(("copying", "induction")):  # their tokens are drawn when the model is known
        assert {content(example) for example in found}.isdisjoint(map(content, test))


@pytest.mark.parametrize("name", SCENES)
def test_scenes_of_the_two_splits_are_told_apart_by_their_content(name, monkeypatch):
    drawn = []

    def draw(scene, **options):
        drawn.append(scene.split)
        return real(scene, **options)

    real = scenes_module.draw
    monkeypatch.setattr(scenes_module, "draw", draw)
    task = find_task(name)
    task.draw(6, 0)
    assert set(drawn) == {"test"}
    drawn.clear()
    task.validation(6, 0)
    assert set(drawn) == {"validation"}


@pytest.mark.parametrize("name", ["chair", "ioi", "copying", "perplexity", "translation"])
def test_the_same_seed_gives_the_same_examples(name):
    task = find_task(name)
    found = [[content(example) for example in task.validation(5, seed)] for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert name == "copying" or found[0] != found[2]


def test_what_is_held_out_of_the_language_tasks():
    pairs = [
        {frozenset((example.answer, example.about["wrong"])) for example in examples}
        for examples in (find_task("ioi").draw(300, 0), find_task("ioi").validation(300, 0))
    ]
    assert pairs[0].isdisjoint(pairs[1])
    phrases = [
        {example.inputs["text"] for example in examples}
        for examples in (find_task("translation").draw(None, 0), find_task("translation").validation(1600, 0))
    ]
    assert phrases[0].isdisjoint(phrases[1])


def test_a_task_set_to_its_validation_split_gives_what_is_not_compared():
    for task in (find_task("ioi", split="validation"), find_task("translation", split="validation")):
        compared = task.draw(100, 0)
        found = task.validation(50, 0, besides=compared)
        assert {content(example) for example in found}.isdisjoint(map(content, compared))


def test_of_a_file_what_was_not_drawn():
    task = Next()
    test = task.draw(30, 0)
    found = task.validation(5, 0, besides=test)
    texts = {example.inputs["text"] for example in test}
    assert not texts & {example.inputs["text"] for example in found}
    assert task.validation(5, 1, besides=test) != found
    with pytest.raises(InputError, match=r"too few examples left.*\d+ beside the 30 that are compared"):
        task.validation(20, 0, besides=test)
    with pytest.raises(InputError, match=r"too few examples left.*0 beside the 40"):
        task.validation(1, 0, besides=task.draw(None, 0))


def test_a_picture_asked_about_in_another_way_is_the_same_picture(tmp_path):
    one, other = tmp_path / "1.png", tmp_path / "2.png"
    test = [Example("1", {"text": "Is there a cat?", "image": one}, "yes")]
    left = [
        Example("2", {"text": "Is there a dog?", "image": one}, "no"),
        Example("3", {"text": "Is there a cat?", "image": other}, "no"),
        Example("4", {"text": ["a", "b"], "image": [one, one]}, "no"),
    ]
    assert [example.id for example in unseen(left, test)] == ["3"]


@dataclass(frozen=True, kw_only=True)
class Endless(Copying):
    """A generator that says nothing about splits."""

    name: ClassVar[str] = "endless"

    def validation(self, n, seed, *, besides=()):
        return super(Copying, self).validation(n, seed, besides=besides)


def test_a_generator_without_splits_is_refused():
    with pytest.raises(InputError, match=r"endless has no validation split.*neither examples\(\) nor"):
        Endless().validation(5, 0)
