"""Files of the user: what is read from them, and where an error is said to be."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.evaluation import find_task
from headwise.evaluation.data.annotations import Word, read_links, read_word_times
from headwise.evaluation.data.files import read_json_lines, read_lines, read_parallel, read_table


def test_json_lines_keep_their_line_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two", "id": 7}\n', encoding="utf-8")
    rows = read_json_lines(path, {"text": "a"})
    assert [(row.line, row.text("text"), row.name("none")) for row in rows] == [
        (1, "one", "none"),
        (3, "two", "7"),
    ]


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("{oops", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"other": 1}', "'text' is missing; it has: other"),
        ('{"text": ""}', "'text' is not a text"),
        ('{"text": 3}', "'text' is not a text"),
        ("[" * 100_000, "more than 64 deep"),
        ('{"text": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"text": "a", "text": "b"}', "'text' stands twice"),
        ('{"text": "a", "b": [{"c": NaN}]}', "NaN is not a number"),
        ('{"text": 1e999}', "out of range"),
        ('{"text": "\\ud800"}', "half of a character"),
        ('{"' + "a" * 100_000 + '": 1}', "'text' is missing"),
        ('{"text": "a", "id": ["b"]}', "'id' is neither a text nor a whole number"),
        ('{"text": "a", "id": true}', "'id' is neither a text nor a whole number"),
    ],
)
def test_bad_json_lines_are_named_by_line(tmp_path, line, fact):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl, line 2") as error:
        [(row.text("text"), row.name("none")) for row in read_json_lines(path, {"text": "a"})]
    assert fact in str(error.value)
    assert len(str(error.value)) < 1000


def test_lines_of_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_lines(tmp_path / "none.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(InputError, match="empty"):
        read_lines(empty)
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(InputError, match="line 2"):
        read_lines(latin)


def test_tables(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("﻿id\ttext\r\n1\t a  b\r\n\r\n2\tc\r\n", encoding="utf-8")
    assert [(row.line, row.fields) for row in read_table(path, {"id": "1"})] == [
        (2, {"id": "1", "text": " a  b"}),
        (4, {"id": "2", "text": "c"}),
    ]
    for text, line, fact in [
        ("id\ttext\n1\n", 2, "1 values and the header 2"),
        ("id\tid\n1\t2\n", 1, "named twice"),
        ("name\n1\n", 1, "'id' is missing; there are: name"),
        ("id\n", 1, "nothing below"),
        ("id" + "\t" * 9_999 + "\n", 1, "'' is named twice"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=f"line {line}") as error:
            read_table(path, {"id": "1"})
        assert fact in str(error.value)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\t\n\r﻿")), min_size=1, max_size=4))
def test_table_round_trip(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "a.tsv"
    header = [f"c{number}" for number in range(len(values) + 1)]
    path.write_bytes(("\t".join(header) + "\n" + "\t".join(["x", *values]) + "\n").encode())
    (row,) = read_table(path, dict.fromkeys(header, "x"))
    assert list(row.fields.values()) == ["x", *values]


def test_all_that_is_missing_is_named_with_a_line_to_copy(tmp_path):
    table = tmp_path / "a.tsv"
    table.write_text("file\ttext\na.wav\thello\n")
    task = find_task("transcription", data=str(table))
    missing = re.escape(
        "The columns 'id', 'audio', 'tgt_text' are missing; there are: file, text. "
        f"({table}, line 1) Begin with the line id<tab>audio<tab>tgt_text"
    )
    with pytest.raises(InputError, match=missing):
        task.examples()
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"question": "one"}\n')
    with pytest.raises(
        InputError, match=r"'options', 'answer' are missing; it has: question.*\[\"pig\", \"bird\"\]"
    ):
        find_task("multiple-choice", data=str(lines)).examples()


def test_parallel_text_drops_and_counts_empty_pairs(tmp_path):
    left, right = tmp_path / "a.en", tmp_path / "a.sw"
    left.write_text("one\n\nthree\n")
    right.write_text("moja\nmbili\ntatu\n")
    assert read_parallel(left, right) == ([(1, "one", "moja"), (3, "three", "tatu")], 1)
    right.write_text("moja\nmbili\n")
    with pytest.raises(InputError, match=r"unequal numbers of lines.*line 3 stands alone"):
        read_parallel(left, right)


@pytest.mark.parametrize("base", [0, 1])
def test_links_in_both_forms_and_both_bases(tmp_path, base):
    path = tmp_path / "gold"
    lines = [[(0, "-", 0), (1, "p", 2), (1, "?", 1)], [], [(0, "-", 0)]]
    path.write_text(
        "\n".join(" ".join(f"{i + base}{kind}{j + base}" for i, kind, j in line) for line in lines)
    )
    found = read_links(path, [(2, 3), (1, 1), (1, 1)], base=base)
    assert found[0].sure == {(0, 0)}
    assert found[0].possible == {(0, 0), (1, 1), (1, 2)}
    assert found[1].possible == frozenset()
    naacl = tmp_path / "naacl"
    naacl.write_text(
        f"1 {base} {base} S\n1 {1 + base} {2 + base} P\n1 {1 + base} {1 + base} P\n3 {base} {base}\n"
    )
    assert read_links(naacl, [(2, 3), (1, 1), (1, 1)], base=base) == found


@pytest.mark.parametrize(
    ("text", "line", "fact"),
    [
        ("0-0\n2-0\n", 2, "leaves a pair of 2 and 1 words"),
        ("0-0\n0~0\n", 2, "no link"),
        ("0-0\n", 2, "1 lines of links for 2"),
        ("1 0 0 S\n3 0 0 S\n", 2, "no sentence 3"),
        ("1 0 0 S\n1 0 0 X\n", 2, "no link"),
        ("0-0\n" + "9" * 5000 + "-0\n", 2, "no link"),
        ("1 0 0 S\n" + "9" * 5000 + " 0 0\n", 2, "no link"),
        ("0-0\n٠-٠\n", 2, "no link"),
    ],
)
def test_bad_links_are_named_by_line(tmp_path, text, line, fact):
    path = tmp_path / "gold"
    path.write_text(text)
    with pytest.raises(InputError, match=f"line {line}") as error:
        read_links(path, [(1, 1), (2, 1)])
    assert fact in str(error.value)
    assert len(str(error.value)) < 1000


def test_links_counted_from_one_leave_the_pair_when_read_from_zero(tmp_path):
    path = tmp_path / "gold"
    path.write_text("1-1\n")
    with pytest.raises(InputError, match="see the option base"):
        read_links(path, [(1, 1)])


LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "words"
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 1
            text = "say ""on"""
        intervals [3]:
            xmin = 1
            xmax = 1.5
            text = "2"
'''
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
1
"IntervalTier"
"words"
0
1.5
3
0
0.25
""
0.25
1
"say ""on"""
1
1.5
"2"
'''


@pytest.mark.parametrize(("text", "encoding"), [(LONG, "utf-8"), (SHORT, "utf-8"), (LONG, "utf-16")])
def test_textgrids(tmp_path, text, encoding):
    path = tmp_path / "clip.TextGrid"
    path.write_text(text, encoding=encoding)
    expected = {"clip": [Word('say "on"', 0.25, 1.0), Word("2", 1.0, 1.5)]}
    assert read_word_times(path) == expected
    assert read_word_times(tmp_path) == expected


def test_word_times_of_ctm_and_table(tmp_path):
    ctm, table = tmp_path / "a.ctm", tmp_path / "a.tsv"
    ctm.write_text(";; comment\nu1 1 0.5 0.25 two 0.9\nu1 1 0.0 0.5 one\nu2 A 1 1 three\n")
    table.write_text(
        "id\tword_idx\tword\tstart\tend\nu1\t0\tone\t0\t0.5\nu1\t1\ttwo\t0.5\t0.75\nu2\t0\tthree\t1\t2\n"
    )
    assert read_word_times(ctm) == read_word_times(table)
    assert [word.text for word in read_word_times(ctm)["u1"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("a.ctm", "u1 1 0.5 0.25\n", "line 1.*too few|too few.*line 1"),
        ("a.ctm", "u1 1 x 0.25 two\n", "'x' is no time"),
        ("a.ctm", "u1 1 0.5 -1 two\n", "lasts from"),
        ("a.ctm", "u1 1 nan 1 two\n", "'nan' is no time"),
        ("a.ctm", "u1 1 1_0 1 two\n", "'1_0' is no time"),
        ("a.ctm", "u1 1 ٣ 1 two\n", "is no time"),
        ("a.ctm", "u1 1 1e999 1 two\n", "lasts from"),
        ("a.TextGrid", SHORT.replace("\n0.25\n1\n", "\n1e999\n1e999\n"), "lasts from inf.*line 16"),
        ("a.TextGrid", SHORT.replace("\n0.25\n1\n", "\n1\n0.25\n"), "lasts from 1.0 to 0.25.*line 16"),
        ("a.TextGrid", SHORT.replace("\n3\n", "\n" + "9" * 5000 + "\n"), "damaged"),
        ("a.TextGrid", SHORT.replace('"words"', '"phones"'), "no TextGrid with a tier"),
        ("a.TextGrid", SHORT.replace("\n3\n", "\n4\n"), "line 8.*damaged|damaged.*line"),
        ("a.txt", "u1\n", "not known"),
    ],
)
def test_bad_word_times(tmp_path, name, text, fact):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=fact):
        read_word_times(path)


@given(st.text())
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    readers = {
        "a.jsonl": lambda path: read_json_lines(path, {"text": "a"}),
        "a.tsv": lambda path: read_table(path, {"id": "1"}),
    }
    for name in ("a.jsonl", "a.tsv", "a.ctm", "a.TextGrid"):
        path = folder / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with suppress(InputError):  # and nothing else
            readers.get(name, read_word_times)(path)
