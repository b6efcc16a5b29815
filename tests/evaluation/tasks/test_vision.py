"""Tasks about pictures: CHAIR, drawn scenes and yes/no groups."""

from __future__ import annotations

import json
import math

import pytest

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.registry import find_task
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.paired import difference
from headwise.evaluation.task import Response
from headwise.evaluation.tasks.vision.chair import DETAILED, Chair
from headwise.evaluation.tasks.vision.pope import Pope
from headwise.evaluation.tasks.vision.scenes import Scenes
from headwise.evaluation.tasks.vision.vqa import Vqa
from headwise.evaluation.tasks.vision.yes_no import COGNITION, PERCEPTION, YesNo
from tests.kit.subjects import language, llava, picture, word_tokenizer
from tests.kit.tasks import numbers

# --- CHAIR


def chair_row(task, there, response):
    return task.score(Example("1", {}, there, {"expected": []}), Response(response, 1))


def test_chair_of_a_worked_case(tmp_path):
    task = Chair(data=tmp_path / "instances.json")
    rows = [
        chair_row(task, ["cat", "dog"], "A dog, a puppy and a bird in a tree. Birds!"),
        chair_row(task, ["cat", "bed", "person"], "A cat on a bed."),
        chair_row(task, [], "Nothing is to be seen."),
    ]
    assert (rows[0]["mentioned"], rows[0]["wrong"]) == ("dog, dog, bird, bird", "bird, bird")
    assert numbers(task, rows) == {
        "chair_i": 0.333333,  # 2 of 6 mentions
        "chair_s": 0.333333,
        "recall": 0.6,  # dog; cat and bed: 3 of 5
        "length": 7.0,
    }
    assert math.isnan(numbers(task, rows[2:])["chair_i"])


def chair_files(folder):
    annotations = [{"image_id": 42, "category_id": 17}, {"image_id": 42, "category_id": 17}]
    annotations.append({"image_id": 43, "category_id": 18})
    instances = {
        "images": [{"id": 42, "file_name": "1.png"}, {"id": 43, "file_name": "2.png"}],
        "annotations": annotations,
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    told = [{"image_id": 42, "caption": "A kitten on sofas"}, {"image_id": 42, "caption": "Some kittens"}]
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "captions.json").write_text(json.dumps({"annotations": told}))
    for name in ("1.png", "2.png"):
        picture().save(folder / name)
    return instances


def test_chair_reads_instances_and_captions(tmp_path):
    chair_files(tmp_path)
    task = find_task("chair", data=str(tmp_path / "instances.json"), captions=str(tmp_path / "captions.json"))
    first, second = task.draw(None, 0)
    assert (first.id, first.answer, second.answer) == ("42", ["cat", "couch"], ["dog"])
    assert first.inputs == {"text": DETAILED, "image": tmp_path / "1.png"}
    assert task.solver.max_new_tokens == task.options()["max_new_tokens"] == 512
    assert Chair(data=tmp_path / "instances.json").draw(None, 0)[0].answer == ["cat"]
    assert "successors" not in [metric.name for metric in task.metrics]


def test_chair_says_which_table_it_used(tmp_path):
    chair_files(tmp_path)
    path = tmp_path / "synonyms.txt"
    path.write_text("cat, kitten\ndog, hound\n")
    own, given = (
        Chair(data=tmp_path / "instances.json"),
        Chair(data=tmp_path / "instances.json", synonyms=path),
    )
    assert own.notes([])["table of words"]["name"] == "headwise"
    assert given.notes([])["table of words"]["name"] == "synonyms.txt"
    assert given.notes([])["table of words"]["words"] == 4
    assert chair_row(given, ["cat"], "a puppy and a hound")["mentioned"] == "dog"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"id": 17, "name": "griffin"}]}, "1 categories are not in the table.*griffin"),
        ({"categories": [{"id": 17}]}, r"'name' is missing.*categories\[0\]"),
        ({"images": {}}, "no list 'images'"),
        ({"images": [{"id": 42, "file_name": "1.png"}]}, r"belongs to no image.*annotations\[2\]"),
        ({"annotations": [{"image_id": 42, "category_id": "cat"}]}, "'category_id' is not a whole number"),
        (
            {"images": [{"id": n, "file_name": "none.png"} for n in (42, 43)]},
            r"no picture .*none\.png.*image 42",
        ),
    ],
)
def test_bad_chair_files(tmp_path, change, message):
    instances = chair_files(tmp_path) | change
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(InputError, match=message):
        Chair(data=tmp_path / "instances.json").draw(None, 0)


def test_chair_refuses_more_images_than_there_are(tmp_path):
    chair_files(tmp_path)
    with pytest.raises(InputError, match="2 examples, fewer than 3"):
        Chair(data=tmp_path / "instances.json").draw(3, 0)


def test_drawn_chair_tells_habit_from_blindness():
    task = Chair()
    example = Example("chair/0", {}, ["star", "ring"], {"expected": ["heart"]})
    row = task.score(example, Response("a red star and a blue heart and a red moon .", 12))
    assert (row["mentions"], row["hallucinated"], row["expected"], row["found"], row["words"]) == (
        3,
        2,
        1,
        1,
        11,
    )
    found = numbers(task, [row])
    assert (found["chair_i"], found["recall"], found["successors"]) == (0.666667, 0.5, 0.5)
    drawn = task.draw(5, 0)
    assert all(not set(one.metadata["expected"]) & set(one.answer) for one in drawn)
    assert task.solver.max_new_tokens == 24


# --- drawn scenes


@pytest.mark.parametrize(
    ("kind", "answer", "response", "parsed"),
    [
        ("existence", "yes", "Yes, there is.", "yes"),
        ("color", "red", "The ring is RED", "red"),
        ("color", "red", "pink", "unknown"),
        ("count", "three", "There are 3.", "three"),
        ("count", "two", "two objects", "two"),
        ("count", "two", "", "unknown"),
    ],
)
def test_answers_about_scenes(kind, answer, response, parsed):
    row = Scenes(kind=kind).score(Example("1", {}, answer), Response(response, 1))
    assert (row["parsed"], row["unparsed"]) == (parsed, parsed == "unknown")
    assert row["correct"] == (parsed == answer)


def test_scenes_have_one_question_each_and_stay_the_same():
    examples = find_task("scene-existence", noise="0.5").draw(10, 0)
    assert [example.answer for example in examples] == ["yes", "no"] * 5
    clean, same, noisy = (Scenes(kind="color", noise=noise).draw(3, 1) for noise in (0, 0, 3))
    assert clean[0].inputs["image"].tobytes() == same[0].inputs["image"].tobytes()
    assert clean[0].inputs["image"].tobytes() != noisy[0].inputs["image"].tobytes()
    assert [one.inputs["text"] for one in clean] == [one.inputs["text"] for one in noisy]
    assert Scenes(kind="count").draw(2, 1)[0].answer in ("two", "three", "four")


# --- yes/no in groups


def yes_no_rows(task, *groups):
    return [
        task.score(
            Example("1", {}, answers, {"category": "", "category_number": number}),
            Response("", 2, metadata={"replies": responses}),
        )
        for number, answers, responses in groups
    ]


def test_yes_no_of_a_worked_case():
    groups = (
        (0, ["yes", "no"], ["Yes.", "no"]),
        (0, ["yes", "no"], ["Yes", "Maybe"]),
        (0, ["no", "no"], ["yes", "no"]),
        (0, ["yes", "no"], ["yes", "not"]),
    )
    task = YesNo(compat=True)
    found = numbers(task, yes_no_rows(task, *groups))  # 6 of 8 right, 2 of 4 whole
    assert found == {"accuracy": 0.75, "accuracy_plus": 0.5, "other": 0.125, "score": 125.0}
    task = YesNo()  # "not" is neither
    found = numbers(task, yes_no_rows(task, *groups))
    assert found == {"accuracy": 0.625, "accuracy_plus": 0.25, "other": 0.25, "score": 87.5}


def test_scores_of_categories_are_added_up():
    rows = yes_no_rows(
        YesNo(),
        (1, ["yes", "no"], ["yes", "no"]),
        (5, ["yes", "no"], ["yes", "yes"]),
        (5, ["no"] * 2, ["no"] * 2),
    )
    assert numbers(YesNo(), rows)["score"] == 200 + 75 + 50


def test_yes_no_reads_mme_files(tmp_path):
    for name in (*PERCEPTION, *COGNITION):
        (tmp_path / f"{name}.txt").write_text("1.jpg\tIs it?\tYes\tyes\r\n1.jpg\tIs it not?\tNo\r\n")
    picture().save(tmp_path / "1.jpg")
    one = YesNo(data=tmp_path / "count.txt").draw(None, 0)
    assert (one[0].id, one[0].inputs["text"], one[0].answer) == (
        "1.jpg",
        ["Is it?", "Is it not?"],
        ["yes", "no"],
    )
    task = YesNo(data=tmp_path)
    examples = task.draw(None, 0)
    assert len(examples) == 14
    rows = [task.score(example, Response("", 2, metadata={"replies": ["yes", "no"]})) for example in examples]
    found = numbers(task, rows)
    assert (found["score"], found["perception"], found["cognition"]) == (2800, 2000, 800)
    position = next(metric for metric in task.metrics if metric.name == "score position")
    assert position.where == ("category", "position")


def test_some_groups_of_a_folder_are_drawn_from_every_category(tmp_path):
    sizes = {"existence": 4, "count": 4, "code_reasoning": 12}
    for name, size in sizes.items():
        pairs = (f"{k}.jpg\tIs it?\tYes\n{k}.jpg\tIs it not?\tNo\n" for k in range(size))
        (tmp_path / f"{name}.txt").write_text("".join(pairs))
    for k in range(12):
        picture().save(tmp_path / f"{k}.jpg")
    task, order = YesNo(data=tmp_path), [example.id for example in YesNo(data=tmp_path).draw(None, 0)]
    for n, counts in ((10, [2, 2, 6]), (3, [1, 1, 1]), (19, None)):
        for seed in range(3):
            ids = [example.id for example in task.draw(n, seed)]
            assert len(set(ids)) == n
            assert ids == sorted(ids, key=order.index)
            assert task.notes(task.draw(n, seed)) == {}
            if counts is not None:
                assert [sum(id.startswith(name) for id in ids) for name in sizes] == counts
    assert len({tuple(example.id for example in task.draw(10, seed)) for seed in range(5)}) > 1
    said = task.notes(task.draw(1, 0))["warnings"][0]
    assert said.startswith("the score adds up 1 categories; none of ")


def test_the_score_is_drawn_again_within_categories(tmp_path):
    """One group of one category is all wrong, one of another all right: no resample can lose or double either."""
    score = YesNo().metrics[3]
    assert score.strata == "category_number"
    one = {"right": [0, 2], "questions": [2, 2], "all_right": [0, 1], "category_number": [0, 3]}
    found = estimate(score, one, seed=0)
    assert (found.value, found.low, found.high) == (200, 200, 200)
    many = {name: values * 10 for name, values in one.items()} | {"category_number": [0] * 10 + [3] * 10}
    found = estimate(score, many, seed=0)
    assert found.low < found.value == 200 < found.high
    alone = difference(score, many, {**many, "right": [2] * 20, "all_right": [1] * 20}, seed=0)
    assert alone.low < alone.value == 200 < alone.high


def test_yes_no_groups_of_any_size(tmp_path):
    lines = [("a", "1", "yes"), ("b", "1", "no"), ("a", "2", "no"), ("a", "3", "no")]
    rows = [
        {"pair": pair, "image": "1.jpg", "question": text, "answer": answer} for pair, text, answer in lines
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    picture().save(tmp_path / "1.jpg")
    groups = YesNo(data=tmp_path / "q.jsonl", group="pair").draw(None, 0)
    assert [(group.id, group.answer) for group in groups] == [("a", ["yes", "no", "no"]), ("b", ["no"])]
    with pytest.raises(InputError, match=r"'couple' is missing.*line 1"):
        YesNo(data=tmp_path / "q.jsonl", group="couple").draw(None, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.jpg\tIs it?\n", r"1 of 3 columns|2 of 3 columns"),
        ("1.jpg\tIs it?\tYes\n2.jpg\tIs it?\tNo\n", r"no second one below it.*line 1"),
        ("1.jpg\ta\tYes\n1.jpg\tb\tNo\n1.jpg\tc\tYes\n", r"no second one below it.*line 3"),
        ("1.jpg\ta\tYes\n1.jpg\tb\tNo\n\n1.jpg\tc\tYes\n1.jpg\td\tNo\n", r"more than two questions.*line 4"),
        ("1.jpg\ta\tYes\n1.jpg\tb\tperhaps\n", r"answer is 'perhaps'.*line 2"),
        ("none.jpg\ta\tYes\nnone.jpg\tb\tNo\n", r"no picture .*none\.jpg.*line 1"),
        ("", "empty"),
    ],
)
def test_bad_yes_no_files(tmp_path, text, message):
    (tmp_path / "q.txt").write_text(text)
    picture().save(tmp_path / "1.jpg")
    with pytest.raises(InputError, match=message):
        YesNo(data=tmp_path / "q.txt").draw(None, 0)


def test_an_empty_folder_of_questions(tmp_path):
    with pytest.raises(InputError, match="holds no text file"):
        YesNo(data=tmp_path).draw(None, 0)


# --- options, and whole runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -1}, "Noise is 0 or more"),
        ({"noise": float("nan")}, "Noise is 0 or more"),
        ({"prompt": "What?"}, "no place for the question"),
        ({"max_new_tokens": -1}, "At least one token"),
        ({"images": "folder"}, "there is no data="),
        ({"split": "rare"}, "no split 'rare'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        Pope(**options)


def test_options_of_the_other_tasks(tmp_path):
    with pytest.raises(InputError, match="drawn scenes only"):
        Scenes(data=tmp_path)
    with pytest.raises(InputError, match="no kind 'shape'"):
        Scenes(kind="shape")
    with pytest.raises(InputError, match="belong to pictures of your own"):
        Chair(captions=tmp_path)


@pytest.mark.filterwarnings("ignore:The tokenizer knows almost nothing")  # words of another world, on purpose
@pytest.mark.parametrize(
    "task", [Pope(), Pope(compat=True), Chair(), Scenes(), Scenes(kind="count"), Vqa(), YesNo()], ids=str
)
def test_a_tiny_model_is_scored(task):
    subject, steps = llava(), []
    result = hw.evaluate(
        subject, task, n=4, batch_size=3, progress=lambda done, total: steps.append((done, total))
    )
    assert len(result.frame) == 4
    assert steps[-1] == (4, 4)
    again = hw.evaluate(subject, task, n=4, batch_size=3)
    assert result.frame.equals(again.frame)
    for metric in task.metrics:
        if metric.where is None:
            assert metric.compute(result.frame) == pytest.approx(
                result.estimates[metric.name].value, nan_ok=True
            )


def test_a_model_that_sees_nothing_is_refused():
    with pytest.raises(InputError, match=r"pope-adversarial shows pictures.*LlamaForCausalLM"):
        hw.evaluate(language(word_tokenizer()), "pope", n=2)
