"""No data file of at most 10 MB takes a gigabyte or 5 seconds before it is read or refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headwise.evaluation import find_task
from headwise.evaluation.data.groups import groups_of
from headwise.evaluation.scoring.chair import read_objects
from tests.kit.bounded import MEGABYTES, excess, filled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a child's memory is read from /proc"),
]

CHAIR = '{"categories":[{"id":1,"name":"cat"}],"images":[{"id":1,"file_name":"a"}],"annotations":['
ANSWERED = (
    '{"annotations":[{"question_id":1,"answers":[' + '{"answer":"a"},' * 3 + '{"answer":"a"}]}],"questions":['
)
GRID = 'File type = "ooTextFile"\nObject class = "TextGrid"\n"IntervalTier" "words" 0 1 '
ROW = '{"question_id":{n},"image":"{n}","text":"a","label":"no"}\n'
IMAGE, QUESTION = '{"id":{n},"file_name":"a"}', '{"question_id":1,"image_id":1,"question":"a"}'
OBJECT = '{"image_id":1,"category_id":1}'
BOMBS: dict[str, dict[str, tuple[str, str, str]]] = {
    "texts": {
        "objects": ("", "{}\n", ""),
        "as many as may be": ("", '{"text":"LONG"}\n', ""),
        "more": ("", '{"text":"a"}\n', ""),
        "one line": ('{"text":"', "a", '"}'),
        "lists in a line": ('{"text":[', "[],", "[]]}"),
        "keys in a line": ('{"text":"a",', '"{n}":1,', '"":1}'),
        "open lists": ("", "[", ""),
        "lines that are deep": ("", '{"text":"a","b":' + "[" * 80 + "]" * 80 + "}\n", ""),
        "lines nearly deep": ("", '{"text":"a","b":[' + "[" * 60 + "]" * 60 + ",[],[],[],[]]}\n", ""),
        "empty lines": ("", "\n", ""),
        "digits": ('{"text":', "9", "}"),
        "backslashes": ('{"text":"', "\\\\", '"}'),
    },
    "contents": {
        "marks": ('{"text":"a', "\u0301\u0323", '"}'),
        "letters that begin with marks": ('{"text":"a', "\u0f73\uff9e", '"}'),
        "letters to write out": ('{"text":"', "\ufdfa", '"}'),
        "lines to write out": ("", '{"text":"' + "\ufdfa" * 7 + "a" * 10 + "\ufb03" * 20 + '"}\n', ""),
    },
    "paragraphs": {
        "short": ("", "a\n\n", ""),
        "as many as may be": ("", "LONGLONG\n\n", ""),
        "empty": ("", "\n", ""),
        "spaces": ("\n", " ", "a"),
        "lines of spaces": ("", "\n" + " " * 120, ""),
        "no text": ("", "\0", ""),
        "wide characters": ("", "\U0001f600", ""),
    },
    "pairs": {
        "rows": ("id\tsrc\ttgt\n", "1\ta\tb\n", ""),
        "as many as may be": ("id\tsrc\ttgt\n", "1\tLONG\tbbbbbb\n", ""),
        "columns": ("", "\t", ""),
        "names of columns": ("id\tsrc\ttgt", "\t{n}", "\n"),
        "cells": ("\t".join(["id", "src", "tgt", *map(str, range(9997))]) + "\n", "ab\t" * 9999 + "ab\n", ""),
        "empty lines": ("id\tsrc\ttgt\n", "\n", ""),
        "a quote that never closes": ('id\tsrc\ttgt\n1\t"', "a\t\n", ""),
    },
    "links": {
        "lines": ("", "0-0\n", ""),
        "links": ("", "0-0 ", ""),
        "one per line": ("", "1 0 0 S\n", ""),
        "digits": ("", "9", "-0\n"),
    },
    "sentences": {"words": ("", "a ", ""), "lines": ("", "a\n", "")},
    "questions": {
        "numbered": ("", ROW, ""),
        "as many as may be": ("", ROW.replace('"a"', '"LONG"'), ""),
        "splits": ("", ROW.replace('"no"', '"no","category":"{n}"'), ""),
        "a name": ('{"question_id":1,"text":"a","label":"no","image":"', "a/", '"}'),
    },
    "groups": {
        "two lines": ("", "{n}\ta\tno\n{n}\tb\tno\n", ""),
        "as many as may be": ("", "{n}\tLONG\tno\n{n}\tLONG\tno\n", ""),
    },
    "captions": {
        "images": (
            '{"categories":[],"annotations":[],"images":[',
            '{"id":{n},"file_name":"a"},',
            '{"id":-1,"file_name":"a"}]}',
        ),
        "objects": (CHAIR, OBJECT + ",", OBJECT + "]}"),
        "lists": ('{"images":[', "[],", "[]]}"),
        "empty objects": ('{"images":[', "{},", "{}]}"),
        "small objects": ('{"images":[', '{"a":[]},', "{}]}"),
        "names": ("{", '"{n}":1,', '"":1}'),
        "escapes": ('{"images":"', "\\u0001", '"}'),
        "numbers": ('{"images":[', "1.5,", "1]}"),
    },
    "answers": {
        "answers": ('{"annotations":[{"question_id":1,"answers":[', '{"answer":"a"},', "1]}]}"),
        "questions": (
            ANSWERED,
            '{"question_id":1,"image_id":1,"question":"a"},',
            '{"question_id":1,"image_id":1,"question":"a"}]}',
        ),
    },
    "words": {
        "words": ("", "one 1 0 1 a\n", ""),
        "as many as may be": ("", "one 1 0 1 LONG\n", ""),
        "digits": ("one 1 ", "9", " 1 a"),
    },
    "intervals": {
        "intervals": (GRID + "1200000 ", '0 1 "a" ', ""),
        "numbers": (GRID.replace("Interval", ""), "1 ", ""),
        "quotes": (GRID, '"', "a"),
        "a quote that never closes": (GRID + '"', '""a', ""),
        "marks": (GRID, "<w", ""),
        "digits": (GRID, "1", "x"),
    },
    "synonyms": {"lines": ("", "{n}\n", ""), "words": ("", "{n}, ", ""), "commas": ("", ",", "")},
}
READ: dict[str, tuple[str, Callable[[Path], object]]] = {
    "texts": ("a.jsonl", lambda data: find_task("perplexity", data=data).examples()),
    "contents": ("a.jsonl", lambda data: groups_of(find_task("perplexity", data=data).examples())),
    "paragraphs": ("a.txt", lambda data: find_task("perplexity", data=data).examples()),
    "pairs": ("a.tsv", lambda data: find_task("translation", data=data).examples()),
    "links": ("a.links", lambda gold: aligned(gold.with_name("one.txt"), gold)),
    "sentences": ("a.en", lambda data: aligned(data, data.with_name("one.txt"))),
    "questions": ("a.jsonl", lambda data: find_task("pope", data=data).examples()),
    "groups": ("a.txt", lambda data: find_task("yes-no", data=data).examples()),
    "captions": ("a.json", lambda data: find_task("chair", data=data).examples()),
    "answers": ("a.json", lambda path: find_task("vqa", data=path, annotations=path).examples()),
    "words": (
        "a.ctm",
        lambda times: find_task("word-times", data=times.with_name("c.tsv"), times=times).examples(),
    ),
    "intervals": (
        "one.TextGrid",
        lambda times: find_task("word-times", data=times.with_name("c.tsv"), times=times).examples(),
    ),
    "synonyms": ("a.txt", read_objects),
}


def aligned(data: Path, gold: Path) -> object:
    return find_task("alignment", data=data, reference=data, gold=gold).examples()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in BOMBS for name in BOMBS[kind]])
def test_ten_megabytes(tmp_path: Path, kind: str, name: str) -> None:
    file, read = READ[kind]
    path = tmp_path / file
    path.write_bytes(filled(*BOMBS[kind][name]).encode())
    assert path.stat().st_size <= MEGABYTES
    (tmp_path / "one.txt").write_text("0-0\n")
    (tmp_path / "c.tsv").write_text("id\taudio\ttgt_text\n")
    assert not excess(lambda: read(path))
