"""No task file, with what it includes and its data, of at most 10 MB takes a gigabyte or 5 seconds of a processor."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.kit.bounded import MEGABYTES, excess, filled
from tests.kit.task_files import CHOICE, ROW, SHOTS, WRITE, run_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a child's memory is read from /proc"),
]

YAML = 2**20
"""Bytes of a task file."""
LINE = json.dumps(ROW)
HERE = "HERE"
Files = Callable[[], dict[str, bytes]]


def _yaml(task: object, unit: str, *, first: str = "[", last: str = "]") -> Files:
    """A task file in whose place HERE stands a unit again and again."""
    head, tail = json.dumps(task).split(f'"{HERE}"')
    return lambda: {"t.yaml": filled(head + first, unit, last + tail, size=YAML - 100).encode()}


def _text(first: str, unit: str) -> Files:
    return lambda: {"t.yaml": filled(first, unit, "", size=YAML - 100).encode()}


def _described(template: str) -> Files:
    return lambda: {"t.yaml": json.dumps({**CHOICE, "description": template}).encode()}


def _files(main: object, others: int, text: Callable[[int], str]) -> Files:
    """A task file and so many beside it."""
    return lambda: {
        "t.yaml": json.dumps(main).encode(),
        **{f"{n}.yaml": text(n).encode() for n in range(others)},
    }


ABOUT = {**CHOICE, "metadata": {"a": HERE}}
NAMES = f'"{{n}}{"a" * 20}": 1,'
DOUBLED = "".join(f"&a{n} [*a{n - 1} , *a{n - 1} ]," for n in range(1, 30))
STEPS = {"name": "{n}", "filter": [{"function": "take_first"}]}
METRIC = {"metric": "exact_match", "regexes_to_ignore": HERE}
FIELDS = {**CHOICE, "task": "t{n}"}
SPLITS = {**CHOICE, "dataset_kwargs": {"data_files": HERE}}
SOLVED = {**SHOTS, "num_fewshot": 1000, "fewshot_config": {"samples": HERE}}
GROUP = {"group": "g", "task": HERE}
NAMED = {"group": "g", "task": ["g0"]}
TASK_FILES: Mapping[str, Files] = {
    "anchors": _yaml(ABOUT, "&a{n} x,"),
    "aliases": _yaml(ABOUT, "*b ,", first="[&b x,"),
    "aliases of aliases": _yaml(ABOUT, " ", first=f"[&a0 [x, x], {DOUBLED}"),
    "names": _yaml(ABOUT, '"{n}": 1,', first="{", last="}"),
    "as many names as may be": _yaml(ABOUT, NAMES, first="{", last="}"),
    "a long name": _yaml(ABOUT, "a", first='{"', last='": 1}'),
    "lists": _yaml(ABOUT, "[],"),
    "open lists": _text("", "["),
    "documents": _text("", "---\n"),
    "comments": _text(json.dumps(CHOICE) + "\n", "# a\n"),
    "a block": _text("task: a\ndescription: |\n", "  a\n"),
    "a long template": _described("{{q}}" * 3_900),
    "a template too long": _yaml({**CHOICE, "description": HERE}, "{{q}}", first='"', last='"'),
    "brackets in a template": _described("{{" + "(" * 9_000 + "q" + ")" * 9_000 + "}}"),
    "blocks in a template": _described("{% if q %}" * 900 + "{% endif %}" * 900),
    "sums in a template": _described("{{q" + "+q" * 9_900 + "}}"),
    "loops in a template": _described("{% for i in range(99999) %}{% endfor %}" * 500),
    "metrics": _yaml({**CHOICE, "metric_list": HERE}, '{"metric": "acc"},'),
    "filters": _yaml({**WRITE, "filter_list": HERE}, json.dumps(STEPS) + ","),
    "steps": _yaml({**WRITE, "filter_list": [{"name": "a", "filter": HERE}]}, '{"function": "lowercase"},'),
    "patterns to ignore": _yaml({**WRITE, "metric_list": [METRIC]}, '"a{n}",'),
    "words to stop at": _yaml({**WRITE, "generation_kwargs": {"until": HERE}}, '"a{n}",'),
    "choices": _yaml({**CHOICE, "doc_to_choice": HERE}, '" {n}",'),
    "solved examples": _yaml(SOLVED, LINE + ","),
    "data files": _yaml(SPLITS, '"q.jsonl",'),
    "splits": _yaml(SPLITS, '"s{n}": "q.jsonl",', first="{", last='"test": "q.jsonl"}'),
    "tasks of a group": _yaml(GROUP, json.dumps(FIELDS) + ","),
    "names of tasks": _yaml(GROUP, '"t{n}",'),
    "tags": _yaml({**CHOICE, "tag": HERE}, '"t{n}",'),
    "includes": _files({**CHOICE, "include": [f"{n}.yaml" for n in range(900)]}, 900, lambda n: "repeats: 1"),
    "one include again and again": _files(
        {**CHOICE, "include": ["0.yaml"] * 50_000}, 1, lambda n: "repeats: 1"
    ),
    "includes of includes": _files(
        {**CHOICE, "include": "0.yaml"}, 3_000, lambda n: f"include: {n + 1}.yaml"
    ),
    "large includes": _files(
        {**CHOICE, "include": [f"{n}.yaml" for n in range(8)]},
        8,
        lambda n: filled('{"metadata": {', NAMES, "}}", size=YAML - 100),
    ),
    "groups of groups": _files(NAMED, 900, lambda n: f"group: g{n}\ntask: [g{n + 1}]"),
    "groups of many": _files(
        NAMED, 300, lambda n: f"group: g{n}\ntask: [{', '.join(f'g{m}' for m in range(n + 1, 301))}]"
    ),
    **{
        f"files of {count} tasks": _files(
            {"group": "g", "task": [f"t{n}" for n in range(count)]},
            count,
            lambda n: json.dumps({**CHOICE, "task": f"t{n}"}),
        )
        for count in (250, 900)
    },
}


def _packed(rows: int, **columns: object) -> bytes:
    table = pa.table({name: pa.repeat(value, rows) for name, value in columns.items()})
    parquet.write_table(table, held := io.BytesIO())
    return held.getvalue()


def _nested(inner: str) -> str:
    return LINE.replace('"e": null', f'"e": {inner}') + "\n"


MANY = ", ".join(f'"{n}-{{n}}": 1' for n in range(80))
COLUMNS = ",".join(map(str, range(9_000)))
DATA: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    name: (kind, (lambda parts=parts: filled(*parts).encode()))
    for name, kind, parts in (
        ("rows", "json", ("", LINE + "\n", "")),
        ("more rows", "json", ("", '{"q": 1}\n', "")),
        ("names", "json", ("", LINE.replace('"q"', '"q{n}"') + "\n", "")),
        ("names in a row", "json", ("{", '"{n}": 1,', '"": 1}')),
        ("as many names as may be", "json", ("{", '"' + "a" * 990 + '{n}": 1,', '"": 1}')),
        ("names within", "json", ("", _nested('{"a{n}": 1}'), "")),
        ("many names within", "json", ("", _nested(f"{{{MANY}}}"), "")),
        ("a list", "json", ("[", LINE + ",", LINE + "]")),
        ("lists", "json", ('[{"q": [', "[],", "[]]}]")),
        ("numbers", "json", ('[{"q": [', "1,", "1]}]")),
        ("deep lists", "json", ("", _nested("[" * 50 + "]" * 50), "")),
        ("deep objects", "json", ("", _nested('{"a":' * 50 + "1" + "}" * 50), "")),
        ("a text", "json", ('[{"q": "', "a", '"}]')),
        ("lines", "csv", ("q,n,c,d\n", "the cat,1,a,b\n", "")),
        ("columns", "csv", ("q,n", ",c{n}", "\n")),
        ("as many columns as may be", "csv", (f"{COLUMNS}\n", "1," * 8_999 + "1\n", "")),
        ("commas", "csv", ("", ",", "\n")),
        ("quotes", "csv", ('q,n\n"', '""', '",1\n')),
        ("a quote that never closes", "csv", ('q,n\n"', "a,\n", "")),
        ("the same name", "csv", ("q", ",q", "\n")),
        ("cells", "csv", ("q,n\n", "a" * 500 + ",1\n", "")),
        ("short lines", "text", ("", "a\n", "")),
        ("one line", "text", ("", "a", "")),
    )
} | {
    name: ("parquet", partial(_packed, rows, **columns))
    for name, rows, columns in (
        ("numbers in Parquet", 19_900_000, {"q": 1.5}),
        ("switches in Parquet", 19_900_000, {"q": True}),
        ("texts in Parquet", 3_900_000, {"q": "a"}),
        ("long texts in Parquet", 250, {"q": "a" * 1_000_000}),
        ("columns in Parquet", 1_900, {f"c{n}": 1 for n in range(9_999)}),
        ("one row of columns in Parquet", 1, {f"c{n}": 1 for n in range(9_999)}),
        ("rows in Parquet", 90_000, {"q": "the cat", "n": 1, "c": "a"}),
    )
}


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported on the way, and the model, are not counted."""
    path = tmp_path_factory.mktemp("warm") / "t.yaml"
    for task in (CHOICE, WRITE):
        path.write_text(json.dumps(task))
        run_task(path)


@pytest.mark.parametrize("name", TASK_FILES)
def test_task_files(tmp_path: Path, name: str) -> None:
    files = TASK_FILES[name]()
    assert sum(map(len, files.values())) <= MEGABYTES
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "q.jsonl").write_text(f"{LINE}\n{LINE}\n")
    assert not excess(lambda: run_task(tmp_path / "t.yaml"))


@pytest.mark.parametrize("name", DATA)
def test_data(tmp_path: Path, name: str) -> None:
    kind, content = DATA[name]
    data = tmp_path / f"q.{kind}"
    data.write_bytes(content())
    assert data.stat().st_size <= MEGABYTES
    task = {**CHOICE, "dataset_path": kind, "dataset_kwargs": {"data_files": {"test": data.name}}}
    (tmp_path / "t.yaml").write_text(json.dumps(task))
    assert not excess(lambda: run_task(tmp_path / "t.yaml"))
