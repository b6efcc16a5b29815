"""Texts of others: what is no text, or too much of it, is one error with file and line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.readers.limits import file_limits
from headwise.readers.text import read_text

BAD = {
    b"fine\ncaf\xe9\n": "not UTF-8.*line 2",
    b"\xff\xfea\0\n\0b": "not UTF-16.*line 2",
    b"fine\n\nth\0ree": "NUL.*line 3",
    "two bytes each".encode("utf-16-le"): "NUL.*line 1",
    b"\x80\x04\x95\x10": "not UTF-8.*line 1",
}


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=BAD[content]):
        read_text(tmp_path / "a.txt")


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff")))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_as_written(tmp_path_factory: pytest.TempPathFactory, encoding: str, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read_text(path) == text


@given(content=st.binary())
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_text(path)


def test_lines_and_their_length_have_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with file_limits(times=1e-4) as limits:
        assert (limits.lines, limits.line_bytes) == (10, 1677)
        path.write_text("a\n" * 10)
        with pytest.raises(InputError, match="lines: 11, and the limit is 10"):
            read_text(path)
        path.write_text(f"a\n{'b' * 1678}")
        with pytest.raises(InputError, match="line 2: characters: 1,678, and the limit is 1,677"):
            read_text(path)
