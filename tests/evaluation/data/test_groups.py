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
from headwise.evaluation.data.groups import groups_of
from headwise.evaluation.data.splits import in_validation, without_shared
from headwise.evaluation.registry import describe_tasks
from headwise.evaluation.statistics.estimate import estimate
from headwise.evaluation.statistics.intervals import WILSON
from headwise.evaluation.task import Metric, Task

N, GROUPS = 12, 4
Rows = list[dict[str, Any]]


def lines(folder: Path, rows: Rows) -> Path:
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "a.jsonl"


def table(folder: Path, rows: Rows) -> Path:
    text = [list(rows[0]), *(list(row.values()) for row in rows)]
    (folder / "a.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in text), newline="")
    return folder / "a.tsv"


def document(folder: Path, name: str, **content: Any) -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


def vqa(folder: Path, group: Rows) -> dict[str, Any]:
    asked = [{"question_id": n, "image_id": n, "question": "a?", **group[n]} for n in range(N)]
    answers = [{"question_id": n, "answers": [{"answer": "a"}] * 10} for n in range(N)]
    return {
        "data": document(folder, "q.json", questions=asked),
        "annotations": document(folder, "a.json", annotations=answers),
    }


def chair(folder: Path, group: Rows) -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.png", **group[n]} for n in range(N)]
    categories = [{"id": 1, "name": "cat"}]
    there = [{"image_id": n, "category_id": 1} for n in range(N)]
    return {"data": document(folder, "c.json", images=images, categories=categories, annotations=there)}


def spoken(folder: Path, group: Rows) -> dict[str, Any]:
    for n in range(N):
        soundfile.write(folder / f"{n}.wav", np.full(160, n / N), 16000)
    rows = [{"id": f"c{n}", "audio": f"{n}.wav", "tgt_text": f"say {n}", **group[n]} for n in range(N)]
    return {"data": table(folder, rows)}


def timed(folder: Path, group: Rows) -> dict[str, Any]:
    times = folder / "t.ctm"
    times.write_text("".join(f"c{n} 1 0 0.1 say{n}\n" for n in range(N)))
    return {**spoken(folder, group), "times": times}


def pairs(folder: Path, group: Rows) -> dict[str, Any]:
    return {"data": table(folder, [{"id": n, "src": f"one {n}", "tgt": "two", **group[n]} for n in range(N)])}


def linked(folder: Path, group: Rows) -> dict[str, Any]:
    gold = folder / "gold"
    gold.write_text("0-0\n" * N)
    return {**pairs(folder, group), "gold": gold}


def by_line(**row: Any) -> Callable[[Path, Rows], dict[str, Any]]:
    """JSON lines whose texts hold the number of the line."""

    def write(folder: Path, group: Rows) -> dict[str, Any]:
        filled = [
            {
                name: value.replace("#", str(n)) if isinstance(value, str) else value
                for name, value in row.items()
            }
            for n in range(N)
        ]
        return {"data": lines(folder, [{**fields, **group[n]} for n, fields in enumerate(filled)])}

    return write


CONTRAST = by_line(prompt="to #", answer=" a", wrong=" b")
FILES: dict[str, Callable[[Path, Rows], dict[str, Any]]] = {
    "alignment": linked,
    "chair": chair,
    "colored-objects": CONTRAST,
    "ioi": CONTRAST,
    "multiple-choice": by_line(question="which #?", options=["x", "y"], answer=0),
    "perplexity": by_line(text="some text #"),
    "pope": by_line(question_id="#", image="#.png", text="a?", label="yes"),
    "transcription": spoken,
    "translation": pairs,
    "vqa": vqa,
    "word-times": timed,
    "yes-no": by_line(image="#.png", question="a?", answer="Yes"),
}


def made(name: str, folder: Path, group: Callable[[int], Mapping[str, Any]]) -> Task:
    return find_task(name, **FILES[name](folder, [dict(group(n)) for n in range(N)]))


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
    whole = [{in_validation(example) for example in found[start::GROUPS]} for start in range(GROUPS)]
    assert all(len(sides) == 1 for sides in whole)
    left = without_shared(found, found[:1])
    assert [example.id for example in left] == [item.id for n, item in enumerate(found) if n % GROUPS]
    empty = made(name, tmp_path, lambda n: {"group": ""}).examples()
    assert list(empty) == list(alone)


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
