"""What fixes are fitted on is never what they are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

import headwise as hw
import headwise.zoo.data.scenes as scenes_module
from headwise.errors import InputError
from headwise.evaluation import Example, find_task, task_names
from headwise.evaluation.data.splits import in_validation, without_shared
from headwise.evaluation.tasks.language.recall import Copying
from tests.kit.comparisons import Next, small_subject

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
    found = task.validation(25, 0, exclude=test)
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
        {frozenset((example.answer, example.metadata["wrong"])) for example in examples}
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
        found = task.validation(50, 0, exclude=compared)
        assert {content(example) for example in found}.isdisjoint(map(content, compared))


def test_of_a_file_the_fifth_that_its_hashed_content_chooses():
    task = Next()
    examples = task.examples()
    held = [example for example, inside in zip(examples, in_validation(examples), strict=True) if inside]
    test = task.draw(33, 0)
    assert len(held) == 7
    assert not any(in_validation(test))
    for seed in (0, 1):
        assert task.validation(7, seed, exclude=test) == task.validation(7, seed) == held
    assert task.validation(3, 0) != task.validation(3, 1)
    with pytest.raises(
        InputError, match=r"too few examples left.*7 beside the 33 that are compared.*holds 7"
    ):
        task.validation(8, 0, exclude=test)
    with pytest.raises(InputError, match=r"too few examples left.*0 beside the 40"):
        task.validation(1, 0, exclude=task.draw(None, 0))


def test_a_test_touches_the_validation_split_last():
    task = Next()
    assert [sum(in_validation(task.draw(n, 3))) for n in (1, 33, 34, 40)] == [0, 0, 1, 7]
    assert task.draw(None, 0) == task.draw(40, 1) == list(task.examples())
    for n in (12, 37):
        assert task.draw(n, 0) == task.draw(n, 0)
        assert task.draw(n, 0) != task.draw(n, 1)
        places = [int(example.id[1:]) for example in task.draw(n, 0)]
        assert places == sorted(set(places))


def test_the_split_is_about_a_fifth_and_knows_neither_ids_nor_folders_nor_the_rest_of_the_file(tmp_path):
    texts = [Example(f"{number}", {"text": f"Line {number}."}, "") for number in range(1000)]
    assert 160 <= sum(in_validation(texts)) <= 240
    one, other = (
        in_validation(
            [
                Example(
                    f"{folder}{number}", {"text": folder, "image": tmp_path / folder / f"{number}.png"}, ""
                )
                for number in range(50)
            ]
        )
        for folder in ("a", "b")
    )
    assert one == other
    assert in_validation(texts[:500]) == in_validation(texts)[:500]


def test_the_manifest_states_the_split_of_a_file():
    subject = small_subject()
    split = hw.evaluate(subject, Next(), n=34).manifest["split"]
    assert split["of_validation"] == 1
    assert "last fifth" in split["rule"]
    assert "split" not in hw.evaluate(hw.load("zoo:lm"), "recall", n=2).manifest


def test_a_picture_asked_about_in_another_way_is_the_same_picture(tmp_path):
    one, other = tmp_path / "1.png", tmp_path / "2.png"
    test = [Example("1", {"text": "Is there a cat?", "image": one}, "yes")]
    left = [
        Example("2", {"text": "Is there a dog?", "image": one}, "no"),
        Example("3", {"text": "Is there a cat?", "image": other}, "no"),
        Example("4", {"text": ["a", "b"], "image": [one, one]}, "no"),
    ]
    assert [example.id for example in without_shared(left, test)] == ["3"]


@dataclass(frozen=True, kw_only=True)
class Endless(Copying):
    """A generator that says nothing about splits."""

    name: ClassVar[str] = "endless"

    def validation(self, n, seed, *, exclude=()):
        return super(Copying, self).validation(n, seed, exclude=exclude)


def test_a_generator_without_splits_is_refused():
    with pytest.raises(InputError, match=r"endless has no validation split.*neither examples\(\) nor"):
        Endless().validation(5, 0)
