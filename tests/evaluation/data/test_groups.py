"""The column `group` of every task's files: it says what examples are about, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from headwise.errors import InputError
from headwise.evaluation import find_task
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.data.groups import groups_of
from headwise.evaluation.data.splits import in_validation, without_shared
from headwise.evaluation.example import Example
from headwise.evaluation.registry import describe_tasks
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.intervals import WILSON
from headwise.evaluation.task import Metric, Task

N, GROUPS = 12, 4
Rows = Sequence[tuple[int, Mapping[str, Any]]]
"""Of every example the number of what it is about, and what else its line says."""


def lines(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "a.jsonl"


def table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    text = [list(rows[0]), *(list(row.values()) for row in rows)]
    (folder / "a.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in text), newline="")
    return folder / "a.tsv"


def document(folder: Path, name: str, **content: Any) -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


def vqa(folder: Path, rows: Rows) -> dict[str, Any]:
    asked = [
        {"question_id": at, "image_id": n, "question": "a?", **more} for at, (n, more) in enumerate(rows)
    ]
    answers = [{"question_id": at, "answers": [{"answer": "a"}] * 10} for at in range(len(rows))]
    return {
        "data": document(folder, "q.json", questions=asked),
        "annotations": document(folder, "a.json", annotations=answers),
    }


def chair(folder: Path, rows: Rows) -> dict[str, Any]:
    images = [{"id": at, "file_name": f"{n}.png", **more} for at, (n, more) in enumerate(rows)]
    categories = [{"id": 1, "name": "cat"}]
    there = [{"image_id": at, "category_id": 1} for at in range(len(rows))]
    return {"data": document(folder, "c.json", images=images, categories=categories, annotations=there)}


def spoken(folder: Path, rows: Rows) -> dict[str, Any]:
    found = []
    for at, (n, more) in enumerate(rows):
        soundfile.write(folder / f"{at}.wav", np.full(160, n / len(rows)), 16000)
        found.append({"id": f"c{at}", "audio": f"{at}.wav", "tgt_text": f"say {n}", **more})
    return {"data": table(folder, found)}


def timed(folder: Path, rows: Rows) -> dict[str, Any]:
    times = folder / "t.ctm"
    times.write_text("".join(f"c{at} 1 0 0.1 say{n}\n" for at, (n, _) in enumerate(rows)))
    return {**spoken(folder, rows), "times": times}


def pairs(folder: Path, rows: Rows) -> dict[str, Any]:
    found = [{"id": at, "src": f"one {n}", "tgt": "two", **more} for at, (n, more) in enumerate(rows)]
    return {"data": table(folder, found)}


def linked(folder: Path, rows: Rows) -> dict[str, Any]:
    gold = folder / "gold"
    gold.write_text("0-0\n" * len(rows))
    return {**pairs(folder, rows), "gold": gold}


def by_line(**row: Any) -> Callable[[Path, Rows], dict[str, Any]]:
    """JSON lines whose texts hold the number of the content at #, and that of the line at @."""

    def write(folder: Path, rows: Rows) -> dict[str, Any]:
        found = [
            {
                **{
                    name: value.replace("#", str(n)).replace("@", str(at))
                    if isinstance(value, str)
                    else value
                    for name, value in row.items()
                },
                **more,
            }
            for at, (n, more) in enumerate(rows)
        ]
        return {"data": lines(folder, found)}

    return write


CONTRAST = by_line(prompt="to #", answer=" a", wrong=" b")
FILES: dict[str, Callable[[Path, Rows], dict[str, Any]]] = {
    "alignment": linked,
    "chair": chair,
    "colored-objects": CONTRAST,
    "ioi": CONTRAST,
    "multiple-choice": by_line(question="which #?", options=["x", "y"], answer=0),
    "perplexity": by_line(text="some text #"),
    "pope": by_line(question_id="@", image="#.png", text="a?", label="yes"),
    "transcription": spoken,
    "translation": pairs,
    "vqa": vqa,
    "word-times": timed,
    "yes-no": by_line(image="#.png", question="a?", answer="Yes"),
}


def made(name: str, folder: Path, group: Callable[[int], Mapping[str, Any]]) -> Task:
    return of_rows(name, folder, [(n, group(n)) for n in range(N)])


def of_rows(name: str, folder: Path, rows: Rows) -> Task:
    return find_task(name, **FILES[name](folder, rows))


def test_every_task_over_files_is_held_to_these_laws():
    over_files = {item["name"] for item in describe_tasks() if "data" in item["options"]}
    variants = {name for name in over_files if name.startswith(("pope-", "scene-"))}
    assert over_files - variants == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_column_says_what_is_about_one_thing_and_nothing_else(name, tmp_path):
    alone = made(name, tmp_path, lambda n: {}).examples()
    assert groups_of(alone).column is None
    task = made(name, tmp_path, lambda n: {"group": n % GROUPS if n % 2 else f" {n % GROUPS} "})
    found = task.examples()
    assert [replace(example, group="") for example in found] == list(alone)
    assert groups_of(found).record == {"groups": f"{N} examples about {GROUPS} groups"}
    assert groups_of(found).column == [str(n % GROUPS) for n in range(N)]
    whole = [set(in_validation(found)[start::GROUPS]) for start in range(GROUPS)]
    assert all(len(sides) == 1 for sides in whole)
    left = without_shared(found, found[:1])
    assert [example.id for example in left] == [item.id for n, item in enumerate(found) if n % GROUPS]
    empty = made(name, tmp_path, lambda n: {"group": ""}).examples()
    assert list(empty) == list(alone)


def sides(task: Task) -> dict[bool | None, list[Example]]:
    """The examples of either side, and of neither."""
    examples = task.examples()
    split = FileSplit(examples)
    found: dict[bool | None, list[Example]] = {True: [], False: [], None: []}
    for example in examples:
        found[split.side(example)].append(example)
    return found


TIED: dict[str, Callable[[int], tuple[int, str]]] = {
    "contents under two groups": lambda at: (at % 30, f"g{at // 4}"),
    "chains": lambda at: ((at * 7) % 40, f"g{at // 2}"),
    "all under all": lambda at: (at % 10, f"g{at // 10}"),
    "some without a group": lambda at: (at % 30, f"g{at}" if at % 3 else ""),
}
"""Number of an example -> what it is about, and its group."""


@pytest.mark.parametrize("tied", TIED)
@pytest.mark.parametrize("name", FILES)
def test_neither_a_group_nor_a_content_is_on_both_sides_of_a_split(name, tied, tmp_path):
    numbers = [TIED[tied](at) for at in range(60)]
    if name == "yes-no":  # questions about one picture are one example
        numbers = list(dict(numbers).items())
    found = sides(of_rows(name, tmp_path, [(n, {"group": group}) for n, group in numbers]))
    held, tested = (
        {
            (kind, part)
            for item in found[side]
            for kind, parts in ContentReader().parts(item)
            for part in parts
        }
        for side in (True, False)
    )
    assert tested
    assert not held & tested
    assert {item.id for item in found[True]}.isdisjoint(item.id for item in found[False])


def test_a_fit_that_does_not_know_the_test_draws_no_text_of_it_under_another_group(tmp_path):
    rows = [(at % 60, {"group": f"g{at}"}) for at in range(120)]
    task = of_rows("perplexity", tmp_path, rows)
    held = len(sides(task)[True])
    assert 12 <= held <= 48
    fitted_on, test = task.validation(held, 0), task.draw(120 - held, 0)
    texts = {item.inputs["text"] for item in fitted_on}
    assert texts.isdisjoint(item.inputs["text"] for item in test)
    assert task.validation(held, 0, exclude=test) == fitted_on


def test_examples_that_touch_nothing_move_nothing(tmp_path):
    rows = [(at % 20, {"group": f"g{at // 3}"}) for at in range(60)]
    more = [(100 + at, {"group": f"h{at % 5}"}) for at in range(40)]
    few, many = (of_rows("perplexity", tmp_path, part).examples() for part in (rows, [*more, *rows]))
    one, other = FileSplit(list(few)), FileSplit(list(many))
    found = {(item.inputs["text"], item.group): other.side(item) for item in many}
    assert {(item.inputs["text"], item.group): one.side(item) for item in few}.items() <= found.items()


@pytest.mark.parametrize(
    "name", [name for name in FILES if FILES[name] not in (spoken, timed, pairs, linked)]
)
@pytest.mark.parametrize("wrong", [[1], True, None, 1.5])
def test_a_group_that_is_no_name_is_refused_with_its_place(name, wrong, tmp_path):
    with pytest.raises(InputError, match=r"'group' is (neither|not) .*(, line 4|\[3\]|image 3: )"):
        made(name, tmp_path, lambda n: {"group": wrong if n == 3 else "a"}).examples()


def test_questions_of_one_example_are_of_one_group(tmp_path):
    rows = [{"image": "1.png", "question": "a?", "answer": "No", "group": one} for one in "ab"]
    with pytest.raises(InputError, match=r"2 questions are one example and of 2 groups.*line 1"):
        find_task("yes-no", data=lines(tmp_path, rows)).examples()
    assert len(find_task("yes-no", data=lines(tmp_path, rows), group="group").examples()) == 2


def kinds_of_metrics() -> Iterator[tuple[str, Metric]]:
    """Every kind of number of the package's tasks, once."""
    seen = set()
    for item in describe_tasks():
        if item["name"] in ("pope-random", "pope-popular"):
            continue
        for metric in find_task(item["name"]).metrics:
            key = (getattr(metric.statistic, "__name__", ""), metric.unit == "share", metric.pooled)
            if key not in seen:
                seen.add(key)
                yield f"{item['name']} {metric.name}", metric


METRICS = dict(kinds_of_metrics())


def drawn(metric: Metric, n: int, seed: int) -> dict[str, Sequence[float]]:
    """Columns of 0 and 1, the first no larger than the others."""
    rng = np.random.default_rng(seed)
    share = metric.unit == "share" or len(metric.columns) > 1
    first = rng.integers(0, 2, n) if share else rng.random(n)
    rest = [np.maximum(first, rng.integers(0, 3, n)) for _ in metric.columns[1:]]
    return dict(zip(metric.columns, (column.tolist() for column in (first, *rest)), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        name if METRICS[name].unit == "share" else pytest.param(name, marks=pytest.mark.slow)
        for name in METRICS
    ],
)
def test_copies_under_one_group_never_make_an_interval_narrower(name):
    metric, n = METRICS[name], 24
    once = drawn(metric, n, 0)
    single = estimate(metric, once, seed=0)
    names = [str(place) for place in range(n)]
    copied = {column: [*values, *values] for column, values in once.items()}
    found = estimate(metric, copied, seed=0, groups=[*names, *names])
    least = 1.0 if single.method.startswith(WILSON) else 0.93  # resamples are drawn by lot
    assert found.high - found.low >= least * (single.high - single.low) - 1e-9
