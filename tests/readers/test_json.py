"""JSON of others: what is not plain JSON within limits is one error."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.readers.json import nesting, parse_json
from headwise.readers.limits import file_limits

BAD = {
    '{"a": 1, "a": 2}': "'a' stands twice",
    '[{"b": {"a": 1, "c": 0, "a": 1}}]': "'a' stands twice",
    "[" * 65 + "]" * 65: "more than 64 deep",
    '{"a":' * 65 + "1" + "}" * 65: "more than 64 deep",
    "9" * 309: "309 digits",
    "[NaN]": "NaN is not a number",
    "[-Infinity]": "-Infinity is not a number",
    "1e999": "1e999 is out of range",
    '"\\ud800"': "half of a character",
    "": "not JSON: it is empty",
    " \n": "not JSON: it is empty",
    "[1,": "not JSON",
    "{'a': 1}": "not JSON",
    "1 2": "not JSON: Extra data",
    "\ud800": "not UTF-8",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=BAD[text]):
        parse_json(text, where="a file, line 3")


@pytest.mark.parametrize("before", range(17))
def test_numbers_of_many_digits_are_found_wherever_they_begin(before: int) -> None:
    assert parse_json(f'{{"{"a" * before}": {"9" * 308}}}', where="x") == {"a" * before: int("9" * 308)}
    with pytest.raises(InputError, match="309 digits"):
        parse_json(f'{{"{"a" * before}": {"9" * 309}}}', where="x")


def test_bytes_are_utf8_with_or_without_a_mark() -> None:
    assert parse_json("\ufeff[1]".encode(), where="x") == [1]
    with pytest.raises(InputError, match="not UTF-8"):
        parse_json(b'"\xff"', where="x")


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(depth_of, inner), default=0) if isinstance(inner, list) else 0


@given(value=VALUES, ascii=st.booleans())
def test_plain_json_is_what_json_reads(value: object, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    assert parse_json(text, where="x") == json.loads(text)
    assert nesting(text.encode()) == nesting(text.encode() + b" " * 5000) == depth_of(value)


@given(text=st.text(alphabet='[]{},:"\\ \n0a\u00e9', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_json(text, where="x")


def test_the_number_of_values_has_a_limit() -> None:
    with file_limits(times=1e-6), pytest.raises(InputError, match="values: 31, and the limit is 20"):
        parse_json(json.dumps(list(range(30)), separators=(",", ":")).replace("[", " ["), where="x")


BOMBS = {
    "opened": "[" * 10_000_000,
    "empty lists": "[" + "[]," * 3_300_000 + "[]]",
    "quotes": '["' + '\\"' * 5_000_000,
    "objects": '{"":' * 2_500_000,
    "numbers": "[" + "1.5," * 2_500_000 + "0]",
    "unclosed texts": '["' + 'a"' * 5_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_ten_megabytes_take_seconds_and_no_gigabyte(name: str) -> None:
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(InputError):
        parse_json(BOMBS[name], where="x")
    assert time.process_time() - begun < 5
    if sys.platform == "linux":
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 10**9
