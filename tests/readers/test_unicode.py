"""Forms of Unicode: exact for texts of any language, and of bounded cost for those of none."""

from __future__ import annotations

import re
from unicodedata import combining, normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.readers.limits import file_limits
from headwise.readers.unicode import compatible, stream_safe

MARKS = st.text(st.sampled_from("ea\u0301\u0323\u0f73\uff9e\u0344\uac00\u11a8か"), max_size=120)


@settings(max_examples=50)
@given(text=st.text() | MARKS)
def test_no_row_of_marks_is_long_and_nothing_else_changes(text: str) -> None:
    safe = stream_safe(text)
    assert safe.replace("\u034f", "") == text.replace("\u034f", "")
    rows = [
        len(row) for row in re.findall("1+", "".join("01"[combining(c) > 0] for c in normalize("NFKD", safe)))
    ]
    assert max(rows, default=0) <= 95  # 30 marks of at most 3 each, and those of the letter before
    if max(map(len, re.findall(r"[^\u034f]+", text)), default=0) <= 30:
        assert compatible(text) == normalize("NFKC", text)


def test_marks_beyond_thirty_by_hand() -> None:
    row, end = "\u0301" * 30, "\u034f"
    assert stream_safe(f"a{row}{row}\u0301") == f"a{row}{end}{row}{end}\u0301"
    assert stream_safe("a" + "\u0301" * 30) == "a" + "\u0301" * 30


def test_letters_that_are_written_out_have_a_limit() -> None:
    compatible("\ufdfa" * 7 + "a" * 10)  # 126 + 10 of 100 + 4 * 17
    with pytest.raises(InputError, match="letters, written out: 180, and the limit is 140"):
        compatible("\ufdfa" * 10)
    with file_limits(times=2):
        compatible("\ufdfa" * 10)
