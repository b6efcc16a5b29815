"""Readers of the files that tasks are given. What is wrong is told with the file's name and the line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from headwise.errors import InputError
from headwise.files import check_path

TAB = "<tab>"
"""How a message writes the mark between two values."""


@dataclass(frozen=True)
class Row:
    """One entry of a file: its fields, and the line it stands on (from 1)."""

    path: Path
    line: int
    fields: dict[str, Any]

    def wrong(self, fact: str, remedy: str) -> NoReturn:
        """Refuse this entry.

        Raises:
            InputError: always, with the file and the line.
        """
        refuse(self.path, self.line, fact, remedy)

    def text(self, name: str) -> str:
        """A field that must be a string with something in it."""
        value = self.fields[name]
        if not isinstance(value, str) or not value.strip():
            self.wrong(f"The field {name!r} is not a text.", "Give a string that is not empty.")
        return value

    def name(self, default: str) -> str:
        """The field `id` as a string, else `default`."""
        value = self.fields.get("id", "")
        return default if value in ("", None) else str(value)


def refuse(path: Path, line: int, fact: str, remedy: str) -> NoReturn:
    """Raise what is wrong with a line of a file."""
    raise InputError(fact, evidence=f"{path}, line {line}", remedy=remedy)


def read_text(path: str | Path) -> str:
    """A whole file in UTF-8 (or UTF-16 with a byte-order mark), with plain line ends.

    Raises:
        InputError: there is no such file, or it is not text.
    """
    check_path(path, "the file")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the path.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read.", evidence=error.strerror or str(error)) from error
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        refuse(path, line, "The file is not UTF-8.", "Convert it, for example with iconv.")
    return text.replace("\r\n", "\n")


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, without their ends; empty ones too.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it is empty.
    """
    text = read_text(path)
    if not text.strip():
        raise InputError(
            "The file is empty.", evidence=str(path), remedy="Give a file with one line or more."
        )
    return text.removesuffix("\n").split("\n")


def read_json_lines(path: str | Path, needed: Mapping[str, Any]) -> list[Row]:
    r"""One JSON object per line; empty lines are passed over.

    Args:
        path: the file.
        needed: fields that every object must have, each with an example.

    Raises:
        InputError: a line is no JSON object or lacks fields; all of them are named.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "items.jsonl"
        ...     _ = path.write_text('{"text": "one"}\n{"text": "two"}\n')
        ...     [(row.line, row.fields["text"]) for row in read_json_lines(path, {"text": "four"})]
        [(1, 'one'), (2, 'two')]
    """
    path, rows = Path(path), []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            refuse(path, number, f"The line is not JSON: {error.msg}.", "Write one JSON object per line.")
        except RecursionError:
            refuse(path, number, "The line is nested too deeply.", "Write one JSON object per line.")
        if not isinstance(fields, dict):
            refuse(path, number, "The line is not a JSON object.", 'Write {"name": value, ...}.')
        missing = [name for name in needed if name not in fields]
        if missing:
            found = f"it has: {', '.join(fields) or 'nothing'}"
            line = json.dumps(needed, ensure_ascii=False)
            refuse(path, number, f"{_missing('field', missing)}; {found}.", f"Write lines such as {line}.")
        rows.append(Row(path, number, fields))
    return rows


def read_table(path: str | Path, needed: Mapping[str, str]) -> list[Row]:
    """Tab-separated values with a header line and without quoting.

    Args:
        path: the file.
        needed: columns that the header must name, each with an example.

    Raises:
        InputError: columns are missing (all of them are named) or named twice, or a line has more or fewer values
            than the header.
    """
    path = Path(path)
    lines = read_lines(path)
    header = lines[0].split("\t")
    missing = [name for name in needed if name not in header]
    if missing:
        fact = f"{_missing('column', missing)}; there are: {', '.join(header)}."
        first, line = (TAB.join(values) for values in (needed, needed.values()))
        refuse(path, 1, fact, f"Begin with the line {first} and go on with lines such as {line}.")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        refuse(path, 1, f"The column {twice[0]!r} is named twice.", "Remove one.")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        values = line.split("\t")
        if len(values) != len(header):
            fact = f"The line has {len(values)} values and the header {len(header)}."
            refuse(path, number, fact, "Separate values by one tab each.")
        rows.append(Row(path, number, dict(zip(header, values, strict=True))))
    if not rows:
        refuse(path, 1, "There is a header and nothing below it.", "Add a line per example.")
    return rows


def _missing(kind: str, names: list[str]) -> str:
    several = "s" if len(names) > 1 else ""
    return f"The {kind}{several} {', '.join(map(repr, names))} {'are' if several else 'is'} missing"


def read_parallel(source: str | Path, target: str | Path) -> tuple[list[tuple[int, str, str]], int]:
    """Two plain files whose lines belong together.

    Returns:
        (line, source, target) of every pair, and how many pairs were dropped because a side is empty.

    Raises:
        InputError: the files have unequal numbers of lines, or no pair is left.
    """
    left, right = read_lines(source), read_lines(target)
    if len(left) != len(right):
        raise InputError(
            "The two files have unequal numbers of lines.",
            evidence=f"{source}: {len(left)}, {target}: {len(right)}; "
            f"line {min(len(left), len(right)) + 1} stands alone",
            remedy="Give one line per sentence in both.",
        )
    lines = enumerate(zip(left, right, strict=True), start=1)
    pairs = [(number, one.strip(), other.strip()) for number, (one, other) in lines]
    complete = [pair for pair in pairs if pair[1] and pair[2]]
    if not complete:
        raise InputError("No line has words on both sides.", evidence=f"{source}, {target}")
    return complete, len(pairs) - len(complete)
