"""Accuracy of short answers against ten people's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.evaluation.scoring.vqa import normalized, vqa_accuracy
from headwise.evaluation.task import Response
from headwise.evaluation.tasks.vision.vqa import Vqa
from tests.kit.subjects import picture


@pytest.mark.parametrize(
    ("agree", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (7, 1), (10, 1)]
)
def test_accuracy_by_how_many_agree(agree, accuracy):
    answers = ["red"] * agree + ["blue"] * (10 - agree)
    for compat in (False, True):
        assert vqa_accuracy("red", answers, compat=compat) == pytest.approx(accuracy, abs=1e-12)


@given(
    st.lists(st.sampled_from(["red", "blue", "2"]), min_size=4, max_size=12),
    st.sampled_from(["red", "2", "x"]),
)
def test_accuracy_is_the_mean_over_annotators(answers, said):
    slow = [
        min(1.0, sum(other == said for place, other in enumerate(answers) if place != one) / 3)
        for one in range(len(answers))
    ]
    assert vqa_accuracy(said, answers) == pytest.approx(sum(slow) / len(slow))


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        *(("two", "2"), ("None", "0"), ("zero", "0"), ("Ten", "10"), ("eleven", "eleven")),
        *(
            ("a dog.", "dog"),
            ("The  dog", "dog"),
            ("an", ""),
            ("U.S.", "us"),
            ("3.5", "3.5"),
            ("end.", "end"),
        ),
        *(("1,000", "1000"), ("red,blue", "red blue"), ("red, blue", "red blue"), ("a-b", "b")),
        *(("well-lit room - no", "welllit room no"), ("black/white", "black white"), ("yes!", "yes")),
        *(
            ("dont", "don't"),
            ("wouldntve", "wouldntve"),
            ("wouldn'tve", "wouldn't've"),
            ("oclock", "o'clock"),
        ),
        *(("its", "its"), ("Twas", "'twas"), ("man's", "man's"), ("\tno\n", "no")),
    ],
)
def test_normalisation(answer, compared):
    assert normalized(answer) == compared


def test_compat_keeps_the_quirks_of_the_script():
    assert normalized("." * 40 + "x", compat=True) == "." * 8 + "x"
    assert normalized("." * 40 + "x") == "x"
    assert normalized("somebody'd", compat=True) == "somebodyd"
    same, mixed = ["Two dogs."] * 10, ["Two dogs."] * 9 + ["3"]
    assert vqa_accuracy("2 dogs", same) == 1
    assert vqa_accuracy("2 dogs", same, compat=True) == 0
    assert vqa_accuracy(" Two dogs.\n", same, compat=True) == 1
    assert vqa_accuracy("2 dogs", mixed, compat=True) == 1


@given(st.text())
def test_any_text_can_be_compared(text):
    answer = normalized(text)
    assert "," not in answer
    assert answer == answer.strip()
    assert vqa_accuracy(text, [text] * 4) == 1


def files(folder, *, annotations=None, questions=None):
    asked = [
        {"question_id": 7, "image_id": 3, "question": "How many dogs?"},
        {"question_id": 9, "image_id": 4, "question": "Which color?", "image": "own.png"},
    ]
    said = [{"answer": "2", "answer_confidence": "yes", "answer_id": place} for place in range(10)]
    known = [
        {"question_id": 9, "answers": said, "answer_type": "other", "question_type": "which"},
        {"question_id": 7, "answers": said, "answer_type": "number", "question_type": "how many"},
    ]
    (folder / "q.json").write_text(json.dumps({"questions": asked} if questions is None else questions))
    (folder / "a.json").write_text(json.dumps({"annotations": known} if annotations is None else annotations))
    for name in ("3.png", "own.png"):
        picture().save(folder / name)
    return Vqa(data=folder / "q.json", annotations=folder / "a.json", file_name="{image_id}.png")


def test_files_are_joined_by_question(tmp_path):
    task = files(tmp_path)
    first, second = task.draw(None, 0)
    assert (first.id, first.inputs["image"], first.metadata["answer_type"]) == (
        "7",
        tmp_path / "3.png",
        "number",
    )
    assert second.inputs["image"] == tmp_path / "own.png"
    rows = [task.score(first, Response("two", 1)), task.score(second, Response("red", 1))]
    assert [row["accuracy"] for row in rows] == [1, 0]
    assert [metric.name for metric in task.metrics] == [
        *("accuracy", "accuracy yes/no", "accuracy number", "accuracy other")
    ]
    assert task.metrics[2].where == ("answer_type", "number")
    assert "noise" not in task.options()


def test_drawn_scenes_have_ten_answers():
    examples = Vqa().draw(6, 0)
    assert {example.metadata["answer_type"] for example in examples} == {"yes/no", "number", "other"}
    assert all(len(example.answer) == 10 for example in examples)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"annotations": {"annotations": []}}, r"question 7 has no answers.*questions\[0\]"),
        ({"annotations": {"answers": []}}, r"no list 'annotations'.*it has: answers"),
        ({"annotations": [1]}, "it has: a list"),
        ({"annotations": {"annotations": [{"question_id": 7}]}}, r"'answers' is missing.*annotations\[0\]"),
        ({"annotations": {"annotations": [{"question_id": 7, "answers": "2"}]}}, "'answers' is not a list"),
        ({"annotations": {"annotations": [{"question_id": 7, "answers": [{}]}]}}, "no text"),
        ({"annotations": {"annotations": [{"question_id": 7, "answers": [{"answer": "2"}]}]}}, "too few"),
        ({"questions": {"questions": [3]}}, r"3 is not a JSON object.*questions\[0\]"),
        (
            {"questions": {"questions": [{"question_id": 7, "image_id": True, "question": "?"}]}},
            "'image_id' is not a whole number or text",
        ),
    ],
)
def test_files_without_the_needed_fields(tmp_path, broken, message):
    with pytest.raises(InputError, match=message):
        files(tmp_path, **broken).draw(None, 0)


def test_malformed_json_names_the_line(tmp_path):
    task = files(tmp_path)
    (tmp_path / "a.json").write_text('{"annotations": [\n{"question_id": 7,,}]}')
    with pytest.raises(InputError, match=r"a\.json, line 2"):
        task.draw(None, 0)


def test_a_missing_picture_is_named(tmp_path):
    task = files(tmp_path)
    (tmp_path / "own.png").unlink()
    with pytest.raises(InputError, match=r"own\.png.*q\.json, questions\[1\]"):
        task.draw(None, 0)


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match="needs two files"):
        Vqa(data=tmp_path / "q.json")
    files(tmp_path)
    odd = Vqa(data=tmp_path / "q.json", annotations=tmp_path / "a.json", file_name="{name}.png")
    with pytest.raises(InputError, match="cannot be made"):
        odd.draw(None, 0)
