"""Counts of the published scripts on 760 odd answers and captions of our own, which `compat=True` gives exactly.

`published_counts.json` holds our inputs, and what these scripts make of them. The outputs were worked out once, with
retyped copies that are not part of this repository, of

- POPE: AoiDragon/POPE `evaluate.py` at f3ec604;
- MME: `calculation.py` of MME's tool, as zhengdian1/AIA has it at c0f413d;
- VQA: GT-Vision-Lab/VQA `vqaEval.py` of its last version, as mlej8/VQA has it at 8056e52; in percent, rounded;
- CHAIR: LisaAnne/Hallucination `utils/chair.py` at a967f2f, with `word_tokenize` of nltk 3.10.4 (English) and
  `singularize` of clips/pattern at 0483028; with headwise's own table of words and with the small one of the file.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.evaluation.example import Example
from headwise.evaluation.registry import find_task
from headwise.evaluation.scoring.chair import mentions, own_objects, read_objects
from headwise.evaluation.scoring.published import published_words
from headwise.evaluation.scoring.vqa import normalized
from headwise.evaluation.task import Response
from headwise.evaluation.tasks.vision.chair import Chair
from tests.kit.tasks import numbers

COUNTS = json.loads(Path(__file__).with_name("published_counts.json").read_text(encoding="utf-8"))


def nodes(short):
    """Names of objects; one that stands there several times in a row is written as a pair."""
    return list(
        chain.from_iterable([item] if isinstance(item, str) else [item[0]] * item[1] for item in short)
    )


def pope(compat):
    task = find_task("pope", compat=compat)
    labels = ["yes", "no"] * len(COUNTS["answers"])
    pairs = zip(COUNTS["answers"], labels, strict=False)
    return task, [task.score(Example("", {}, label), Response(said, 1)) for (said, _, _), label in pairs]


def mme(compat):
    task = find_task("yes-no", compat=compat)
    about = {"category": "", "category_number": 0}
    groups = zip(COUNTS["answers"][::2], COUNTS["answers"][1::2], strict=False)
    return task, [
        task.score(
            Example("", {}, ["yes", "no"], about), Response("", 2, metadata={"replies": [one[0], two[0]]})
        )
        for one, two in groups
    ]


def vqa(compat):
    task = find_task("vqa", compat=compat)
    about = {"answer_type": "other", "question_type": ""}
    return task, [
        task.score(Example("", {}, COUNTS["people"][people], about), Response(said, 1))
        for people, said, _ in COUNTS["short answers"]
    ]


def chair(compat):
    task = Chair(data=Path("instances.json"), compat=compat)
    there = ["dog", "person", "bus", "cat"]
    return task, [
        task.score(Example("", {}, there), Response(caption, 1)) for caption, _, _ in COUNTS["captions"]
    ]


def test_there_are_as_many_as_the_docstring_says():
    parts = ("answers", "short answers", "normalised", "captions")
    assert sum(len(COUNTS[part]) for part in parts) == 759
    for part in parts:
        assert len({json.dumps(row) for row in COUNTS[part]}) == len(COUNTS[part])


def test_yes_and_no_are_read_as_published():
    assert [row["parsed"] for row in pope(True)[1]] == [read for _, read, _ in COUNTS["answers"]]
    said = [read for _, _, read in COUNTS["answers"]]
    found = [word for row in mme(True)[1] for word in row["parsed"].split(", ")]
    assert found == said[: len(found)]


def test_short_answers_are_scored_as_published():
    found = [round(100 * row["accuracy"], 2) for row in vqa(True)[1]]
    assert found == [accuracy for *_, accuracy in COUNTS["short answers"]]
    assert [normalized(text, compat=True) for text, _ in COUNTS["normalised"]] == [
        text for _, text in COUNTS["normalised"]
    ]


def test_objects_of_captions_are_counted_as_published(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("\n".join(COUNTS["table"]), encoding="utf-8")
    own, small = own_objects(compat=True), read_objects(path, compat=True)
    for caption, in_own, in_small in COUNTS["captions"]:
        assert [mention.node for mention in mentions(caption, own)] == nodes(in_own), caption
        assert [mention.node for mention in mentions(caption, small)] == nodes(in_small), caption


PUBLISHED = {
    pope: {
        "accuracy": 0.522843,
        "precision": 0.517483,
        "recall": 0.747475,
        "f1": 0.61157,
        "yes_ratio": 0.725888,
    },
    mme: {"accuracy": 0.316327, "accuracy_plus": 0.132653, "score": 44.897959, "other": 0.44898},
    vqa: {"accuracy": 0.5989},
    chair: {"chair_i": 0.418495, "chair_s": 0.436242, "recall": 0.166946},
}


@pytest.mark.parametrize("scored", PUBLISHED, ids=lambda scored: scored.__name__)
def test_numbers_of_all_are_the_published_ones(scored):
    found = numbers(*scored(True))
    for name, value in PUBLISHED[scored].items():
        assert found[name] == pytest.approx(value, abs=5e-5 if scored is vqa else 1e-9)
    otherwise = numbers(*scored(False))
    assert any(otherwise[name] != found[name] for name in PUBLISHED[scored])


@given(st.text())
def test_any_caption_has_words(text):
    words = published_words(text)
    assert all(not any(map(str.isspace, word)) for word in words)
    assert (words == []) == (text.split() == [])
