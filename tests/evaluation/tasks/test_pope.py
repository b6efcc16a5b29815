"""POPE: how answers are read, the builder, published files, drawn scenes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.registry import find_task
from headwise.evaluation.scoring.yes_no import mme_yes_no, official_yes_no, strict_yes_no
from headwise.evaluation.task import Response
from headwise.evaluation.tasks.vision.pope import SPLITS, Pope, build_pope
from tests.kit.subjects import llava, picture
from tests.kit.tasks import numbers

# --- reading yes and no


@pytest.mark.parametrize(
    ("text", "official", "strict", "mme"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no"),
        ("no, there is not", "no", "no", "no"),
        ("NO", "yes", "no", "no"),
        ("none", "yes", "unknown", "no"),
        ("there isn't", "yes", "unknown", "other"),
        ("", "yes", "unknown", "other"),
        ("There is not a dog.", "no", "unknown", "other"),
        ("It is there. No doubt.", "yes", "no", "other"),
        ("No.", "no", "no", "no"),
        ("No\nmore", "yes", "no", "no"),
        ("Yes, no doubt", "no", "yes", "yes"),
        ("Knowing", "yes", "unknown", "no"),
        ("I say no", "no", "no", "other"),
    ],
)
def test_how_answers_are_read(text, official, strict, mme):
    assert (official_yes_no(text), strict_yes_no(text), mme_yes_no(text)) == (official, strict, mme)


@given(st.text())
def test_every_text_is_read_as_something(text):
    assert official_yes_no(text) in ("yes", "no")
    assert strict_yes_no(text) == strict_yes_no(text.upper()) or not text.isascii()
    assert mme_yes_no(text) == mme_yes_no(text[:4] + "yes no")[:5] or len(text) < 4


# --- POPE


def answered(task, pairs):
    return [
        task.score(Example(str(n), {}, label), Response(said, 1)) for n, (label, said) in enumerate(pairs)
    ]


def test_pope_of_a_worked_case():
    task = Pope(compat=True)
    pairs = [("yes", "Yes")] * 3 + [("yes", "No")] + [("no", "NO")] * 2 + [("no", "no")] * 4
    assert numbers(task, answered(task, pairs)) == {
        "accuracy": 0.7,  # TP 3, FN 1, FP 2 (NO reads as yes), TN 4
        "precision": 0.6,
        "recall": 0.75,
        "f1": 0.666667,
        "yes_ratio": 0.5,
        "unparsed": 0.0,
    }
    strict = Pope()
    rows = answered(strict, [*pairs, ("yes", "maybe"), ("no", "")])
    assert numbers(strict, rows) == {
        "accuracy": 0.75,
        "precision": 1.0,
        "recall": 0.6,
        "f1": 0.75,
        "yes_ratio": 0.25,
        "unparsed": 0.166667,
    }


def test_measures_of_what_was_never_said_are_not_defined():
    task = Pope()
    never = numbers(task, answered(task, [("no", "no"), ("no", "no")]))
    assert all(math.isnan(never[name]) for name in ("precision", "recall", "f1"))
    missed = numbers(task, answered(task, [("yes", "no"), ("no", "no")]))
    assert math.isnan(missed["precision"])
    assert (missed["recall"], missed["f1"]) == (0, 0)


OBJECTS = {
    "1.jpg": ["orange", "cat", "dog", "bed"],
    "2.jpg": ["dog", "cat", "umbrella"],
    "3.jpg": ["cat", "bed"],  # too few
    "4.jpg": ["dog", "car", "bus", "tree"],
    "5.jpg": ["car", "bus", "road", "tree"],
}


@pytest.mark.parametrize("split", SPLITS)
def test_built_pope(split):
    lines = build_pope(OBJECTS, split, 0)
    assert [line["question_id"] for line in lines] == list(range(1, 25))
    assert [line["label"] for line in lines] == ["yes", "no"] * 12
    for image, objects in OBJECTS.items():
        asked = [
            line["text"].split(" in the")[0].split(maxsplit=3)[3] for line in lines if line["image"] == image
        ]
        assert asked[::2] == (objects[:3] if len(objects) > 2 else [])
        assert not set(asked[1::2]) & set(objects)
        assert len(set(asked)) == len(asked)
    assert lines[0]["text"] == "Is there an orange in the image?"
    assert lines == build_pope(OBJECTS, split, 0)
    others = build_pope(OBJECTS, "random", 0)
    assert [line for line in lines if line["label"] == "yes"] == [
        one for one in others if one["label"] == "yes"
    ]


def negatives(split):
    lines = build_pope(OBJECTS, split, 0)
    return [line["text"] for line in lines if line["label"] == "no" and line["image"] == "1.jpg"]


def test_popular_and_adversarial_negatives():
    # dog 3; cat, car, bus, tree 2; orange, bed, umbrella, road 1: ties go by first appearance
    assert negatives("popular") == [f"Is there a {item} in the image?" for item in ("car", "bus", "tree")]
    # orange is seen with what is there only: at random; cat with umbrella; dog with car, then bus, tree
    assert negatives("adversarial")[1:] == [
        "Is there an umbrella in the image?",
        "Is there a car in the image?",
    ]


def test_built_pope_refuses_what_it_cannot_build():
    with pytest.raises(InputError, match="No object is left"):
        build_pope({"1.jpg": ["cat", "dog", "bed"]}, "random", 0)
    with pytest.raises(InputError, match="4 images have three objects, fewer than 5"):
        build_pope(OBJECTS, "random", 0, images=5)
    with pytest.raises(InputError, match="no split 'rare'"):
        build_pope(OBJECTS, "rare", 0)
    assert len(build_pope(OBJECTS, "popular", 0, images=2)) == 12


def pope_file(folder, lines):
    path = folder / "coco_pope_random.json"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    for name in ("1.jpg", "2.jpg", "4.jpg", "5.jpg"):
        picture().save(folder / name)
    return path


LINE = {"question_id": 1, "image": "1.jpg", "text": "Is there a cat in the image?", "label": "yes"}


def test_pope_reads_a_published_file(tmp_path):
    path = pope_file(tmp_path, build_pope(OBJECTS, "random", 0))
    task = find_task("pope-random", data=str(path), prompt="{question} Please answer yes or no.")
    examples = task.draw(None, 0)
    assert len(examples) == 24
    assert examples[0].id == "1"
    assert examples[0].inputs["image"] == tmp_path / "1.jpg"
    assert examples[0].inputs["text"] == "Is there an orange in the image? Please answer yes or no."
    assert [example.id for example in task.draw(5, 1)] == [example.id for example in task.draw(5, 1)]
    assert "noise" not in task.options()
    assert "noise" in Pope().options()


def test_pope_takes_the_lines_of_its_category(tmp_path):
    lines = [LINE | {"question_id": n, "category": split} for n, split in enumerate(SPLITS)]
    path = pope_file(tmp_path, lines)
    task = Pope(data=path, split="popular")
    assert [example.id for example in task.examples()] == ["1"]
    assert task.notes([]) == {"lines of other splits, left out": 2}
    only = pope_file(tmp_path, lines[:1])
    with pytest.raises(InputError, match=r"no question of the split 'popular'.*has: random"):
        Pope(data=only, split="popular").examples()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINE, '{"question_id": 2,'], r"not JSON.*\.json, line 2"),
        ([LINE, "[1]"], r"not a JSON object.*line 2"),
        ([LINE, "", {"question_id": 2}], r"'image', 'text', 'label' are missing.*line 3"),
        ([LINE | {"label": "maybe"}], r"label is 'maybe'.*line 1"),
        ([LINE, LINE], r"question_id 1 stands in an earlier line.*line 2"),
        ([LINE | {"text": ""}], r"'text' is not a text.*line 1"),
        ([LINE | {"image": 7}], r"'image' is not a text.*line 1"),
        ([LINE | {"image": "none.jpg"}], r"no picture .*none\.jpg.*line 1"),
        ([], "empty"),
    ],
)
def test_bad_pope_files_are_refused_with_their_line(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        Pope(data=pope_file(tmp_path, lines)).draw(None, 0)


def test_drawn_pope_shares_scenes_and_positives():
    drawn = {split: Pope(split=split).draw(40, 3) for split in SPLITS}
    for split, examples in drawn.items():
        assert [example.answer for example in examples] == ["yes", "no"] * 20
        assert [example.id for example in examples[:2]] == [
            f"pope-{split}/3/000000/0",
            f"pope-{split}/3/000000/1",
        ]
        for one, other in zip(examples, drawn["random"], strict=True):
            assert one.inputs["image"].tobytes() == other.inputs["image"].tobytes()
            assert one.answer == "no" or one.inputs["text"] == other.inputs["text"]
    texts = [[example.inputs["text"] for example in examples] for examples in drawn.values()]
    assert texts[0] != texts[1] != texts[2]
    assert [one.id for one in Pope().draw(5, 3)] == [one.id for one in drawn["adversarial"][:5]]


def test_files_are_opened_when_they_are_asked_about(tmp_path):
    path = pope_file(tmp_path, build_pope(OBJECTS, "random", 0))
    result = hw.evaluate(llava(), Pope(split="random", data=path, max_new_tokens=2), n=6)
    assert result.task == "pope-random"
    assert result.manifest["decoding"]["max_new_tokens"] == 2
    (tmp_path / "2.jpg").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        hw.evaluate(llava(), Pope(split="random", data=path, max_new_tokens=2))
