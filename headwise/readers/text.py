"""Texts of others: UTF-8, bounded in lines and in the length of a line, without NUL."""

from __future__ import annotations

import os

from headwise.errors import InputError
from headwise.readers.content import read_bytes, shown
from headwise.readers.limits import current_limits, require_within


def read_text(path: str | os.PathLike[str]) -> str:
    r"""A whole file in UTF-8 (or UTF-16 with a byte-order mark), with plain line ends.

    Raises:
        InputError: there is no such file, it is not text, or larger than the limits; the line is named.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "a.txt"
        ...     _ = path.write_bytes(b"one\r\ntwo")
        ...     read_text(path)
        'one\ntwo'
    """
    limits, where = current_limits(), shown(path)
    data = read_bytes(path, limit=limits.text_bytes)
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"The file is not {'UTF-16' if wide else 'UTF-8'}.",
            evidence=f"{where}, line {line}",
            remedy="Convert it, for example with iconv.",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            "The file is not a text: it holds a NUL character.",
            evidence=f"{where}, line {line}",
            remedy="Check which file this is, or save it as UTF-8.",
        )
    require_within(text.count("\n") + 1, limits.lines, "lines", where=where)
    for number, line in enumerate(text.split("\n"), start=1):
        require_within(len(line), limits.line_bytes, "characters", where=f"{where}, line {number}")
    return text
