"""Readers of the files that tasks are given. What is wrong is told with the file's name and the line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from headwise.errors import InputError
from headwise.readers.content import shown, uncollected
from headwise.readers.json import parse_json
from headwise.readers.limits import current_limits, require_within
from headwise.readers.text import read_text
from headwise.text import visible

TAB = "<tab>"
"""How a message writes the mark between two values."""


@dataclass(frozen=True)
class Row:
    """One entry of a file: its fields, and the line it stands on (from 1)."""

    path: Path
    line: int
    fields: dict[str, Any]

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{shown(self.path)}, line {self.line}"

    def wrong(self, fact: str, remedy: str) -> NoReturn:
        """Refuse this entry.

        Raises:
            InputError: always, with the file and the line.
        """
        refuse(self.path, self.line, fact, remedy)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Lets errors about a file that this entry names say where it is named."""
        try:
            yield
        except InputError as error:
            where = ", ".join(filter(None, (self.place, error.evidence)))
            raise InputError(error.fact, evidence=where, remedy=error.remedy) from error

    def text(self, name: str) -> str:
        """A field that must be a string with something in it."""
        value = self.fields[name]
        if not isinstance(value, str) or not value.strip():
            self.wrong(f"The field {name!r} is not a text.", "Give a string that is not empty.")
        return value

    def name(self, default: str) -> str:
        """The field `id` as a string, else `default`."""
        return default if self.fields.get("id") in ("", None) else self.label("id")

    @property
    def group(self) -> str:
        """The field `group` as a string, what the entry is about; empty where the file does not say."""
        return self.label("group").strip()

    def label(self, name: str, default: str = "") -> str:
        """A field that tells examples apart, a text or a whole number, as a string; `default` where it is missing."""
        value = self.fields.get(name, default)
        if not isinstance(value, str | int) or isinstance(value, bool):
            self.wrong(
                f"The field {name!r} is neither a text nor a whole number.", "Write a name or a number."
            )
        return str(value)


def refuse(path: Path, line: int, fact: str, remedy: str) -> NoReturn:
    """Raise what is wrong with a line of a file; of a long fact the beginning."""
    raise InputError(visible(fact, limit=300), evidence=f"{shown(path)}, line {line}", remedy=remedy)


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, without their ends; empty ones too.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it is empty.
    """
    text = read_text(path)
    if not text.strip():
        raise InputError(
            "The file is empty.", evidence=shown(path), remedy="Give a file with one line or more."
        )
    return text.removesuffix("\n").split("\n")


@uncollected()
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
        fields = parse_json(line, where=f"{shown(path)}, line {number}")
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
    require_within(lines[0].count("\t") + 1, current_limits().columns, "columns", where=shown(path))
    header = lines[0].split("\t")
    missing = [name for name in needed if name not in header]
    if missing:
        fact = f"{_missing('column', missing)}; there are: {', '.join(header)}."
        first, line = (TAB.join(values) for values in (needed, needed.values()))
        refuse(path, 1, fact, f"Begin with the line {first} and go on with lines such as {line}.")
    twice, count = Counter(header).most_common(1)[0]
    if count > 1:
        refuse(path, 1, f"The column {twice!r} is named twice.", "Remove one.")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        count = line.count("\t") + 1
        if count != len(header):
            fact = f"The line has {count} values and the header {len(header)}."
            refuse(path, number, fact, "Separate values by one tab each.")
        rows.append(Row(path, number, dict(zip(header, line.split("\t"), strict=True))))
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
            evidence=f"{shown(source)}: {len(left)}, {shown(target)}: {len(right)}; "
            f"line {min(len(left), len(right)) + 1} stands alone",
            remedy="Give one line per sentence in both.",
        )
    lines = enumerate(zip(left, right, strict=True), start=1)
    pairs = [(number, one.strip(), other.strip()) for number, (one, other) in lines]
    complete = [pair for pair in pairs if pair[1] and pair[2]]
    if not complete:
        raise InputError("No line has words on both sides.", evidence=f"{shown(source)}, {shown(target)}")
    return complete, len(pairs) - len(complete)
