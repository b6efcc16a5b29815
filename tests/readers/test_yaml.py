"""YAML of others: JSON's kinds of values, no tags, nothing that unfolds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.readers.limits import file_limits
from headwise.readers.yaml import parse_yaml

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
LETTERS = f"a: &a {'x' * 100_000}\nb: [{'*a,' * 1000}]\n"
BAD = {
    "a: 1\nb: !function os.system": "tag: !function os.system.*line 2",
    "a: !!python/object/apply:os.system [ls]": "tag: python/object/apply:os.system",
    "a: !!python/name:os.system": "tag: python/name",
    "!<tag:example.org,2000:x> a": "tag: tag:example.org",
    "a: !local {b: 1}": "tag: !local",
    "a: !!binary aGk=": "tag: binary",
    "a: !!set {x}": "tag: set",
    "a: !!omap [x: 1]": "tag: omap",
    "a: !!int x": "out of range",
    "%TAG ! tag:x,2000:\n--- a": "begins with %",
    "a: 1\nb:\n  <<: {c: 1}": "name is no text.*line 3",
    "? [a]\n: 1": "name is no text",
    "1: 2": "name is no text",
    "a: 1\na: 2": "'a' stands twice.*line 2",
    "a: &a [*a]": "holds itself",
    "a: &a {b: [*a]}": "holds itself",
    "a: .nan": "out of range",
    "a: -.inf": "out of range",
    "a: " + "9" * 400: "out of range",
    "a: *x": "undefined alias",
    "a: [": "not YAML",
    "a: 1\n---\nb: 2": "another document, line 2",
    "a: \0": "not YAML",
    "[" * 65 + "]" * 65: "more than 64 deep",
    "[" * 2**20: "more than 64 deep",
    "? " * 2**19: "more than 64 deep",
    LAUGHS: "values: 1,234,567,909",
    LETTERS: "values: 1,564,567",
    "{" + "?," * 520_000 + "}": "events",
    "#" * 2**20 + "\n": "bytes: 1,048,577",
}


@pytest.mark.parametrize("text", BAD, ids=[text[:20] for text in BAD])
def test_what_is_refused_within_seconds(text: str) -> None:
    before = time.process_time()
    with pytest.raises(InputError, match=BAD[text]):
        parse_yaml(text.encode(), where="a file")
    assert time.process_time() - before < 5


def test_limits_can_be_raised() -> None:
    with file_limits(times=20_000):
        assert len(parse_yaml(LETTERS.encode(), where="x")[0]["b"]) == 1000
    with pytest.raises(InputError, match="not UTF-8"):
        parse_yaml(b"\xff", where="x")


def test_values_and_lines() -> None:
    value, lines = parse_yaml(
        "\ufeffa: &a\n  - 1\n  - 2.5\nb: {c: no, d: ~}\ne: *a\nf: 2024-01-01\n".encode(), where="x"
    )
    assert value == {"a": [1, 2.5], "b": {"c": False, "d": None}, "e": [1, 2.5], "f": "2024-01-01"}
    assert value["a"] is not value["e"]
    assert [lines["a", 1], lines["b", "d"], lines["e",], lines["f",]] == [3, 4, 1, 6]
    assert parse_yaml(b"", where="x") == (None, {})
    found = parse_yaml(b"a: !function m.f\n", where="x", construct=lambda *given: given)[0]
    assert found == {"a": ("!function", "m.f", 1)}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text.encode(), where="x")[0] == yaml.safe_load(text)  # which loses U+0085


@given(st.binary(max_size=60) | st.text("ab:-&*!?[]{}<%'\"|>#\n 1", max_size=40).map(str.encode))
def test_whatever_stands_there_is_a_value_or_one_error(content: bytes) -> None:
    with suppress(InputError):
        parse_yaml(content, where="x")
