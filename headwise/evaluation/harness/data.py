"""Rows of a task's own files, read through headwise's readers."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.data.files import read_json_lines, read_lines
from headwise.evaluation.harness.fields import CODE
from headwise.readers.content import inside, opened, shown
from headwise.readers.json import parse_json
from headwise.readers.limits import current_limits, require_within
from headwise.readers.parquet import read_parquet
from headwise.readers.text import read_text


def data_of(config: Mapping[str, Any], file: Path, root: Path) -> Callable[..., Any]:
    """A function that reads a task's data, for the field `custom_dataset` of the harness.

    Args:
        config: fields of the task, checked.
        file: the task file. Its data lie beside it or in `root`, which it lies in.
        root: a folder that no name may lead out of.

    Raises:
        InputError: the task names no file, or one that is not there, or leads out of `root`.
    """
    name, kind, options = config.get("task"), config.get("dataset_path"), config.get("dataset_kwargs")
    if kind is None or not options:
        raise InputError(
            f"The task {name!r} could not be loaded: it names no data.",
            evidence=shown(file),
            remedy="Give it dataset_path and dataset_kwargs, as docs/harness.md says.",
        )
    named = options["data_files"]
    splits = named if isinstance(named, dict) else {"train": named}
    paths = {split: list(_found(names, file, root)) for split, names in splits.items()}

    def rows(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        try:
            tables = {split: _read(kind, several, options) for split, several in paths.items()}
        except InputError as error:
            fact = f"The data of the task {name!r} cannot be used: {error.fact}"
            raise InputError(fact, evidence=error.evidence, remedy=error.remedy) from error
        return DatasetDict({split: Dataset.from_dict(table) for split, table in tables.items()})

    return rows


def _found(names: str | list[str], file: Path, root: Path) -> Iterator[Path]:
    """The files that a task names; `*` and `?` stand for parts of names."""
    folder, where = os.path.relpath(file.parent.resolve(), root), f"named in {shown(file)}"
    for name in [names] if isinstance(names, str) else names:
        path = inside(os.path.join(folder, name), root, where=where)
        if "**" in name:
            raise InputError(
                "A task looks for its data everywhere.", evidence=f"{shown(file)}: {name!r}", remedy=CODE
            )
        pattern = os.path.join(glob.escape(str(root)), folder, name)
        several = [
            item for item in {str(path), *map(os.path.normpath, glob.glob(pattern))} if os.path.isfile(item)
        ]
        if not several:
            raise InputError(
                f"There is no data file {shown(name)}.",
                evidence=where,
                remedy="Put it beside the task file.",
            )
        for item in sorted(several):
            yield inside(os.path.relpath(item, root), root, where=where)


def _read(kind: str, paths: list[Path], options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Column -> values; None where a row has none."""
    rows = [row for path in paths for row in _READERS[kind](path, options)]
    names = dict.fromkeys(name for row in rows for name in row)
    within = _Within()
    for row in rows:
        within.look(row, 0)
    _require_cells(within.objects * len(within.places) + within.items, len(within.places), shown(paths[0]))
    return {name: [row.get(name) for row in rows] for name in names}


class _Within:
    """What lies within rows: objects, the places of names, all of which each object has in a table, items of lists."""

    def __init__(self) -> None:
        self.places: dict[tuple[int, str], int] = {}
        self.objects = self.items = 0

    def look(self, value: dict[str, Any] | list[Any], place: int) -> None:
        """Count what is in a value that stands at a place."""
        if isinstance(value, list):
            self.items += len(value)
            inner = [(part, place) for part in value if isinstance(part, dict | list)]
        else:
            self.objects += 1
            numbers = [self.places.setdefault((place, name), len(self.places) + 1) for name in value]
            inner = [
                pair for pair in zip(value.values(), numbers, strict=True) if isinstance(pair[0], dict | list)
            ]
        for part, number in inner:
            self.look(part, number)


def _require_cells(cells: int, columns: int, where: str) -> None:
    """Refuse a table that takes too long to build: a cell counts as ten of Parquet's."""
    limits = current_limits()
    require_within(columns, limits.columns, "columns", where=where)
    require_within(10 * cells, limits.parquet_cells, "cells (each counts as ten)", where=where)


def _json(path: Path, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return [row.fields for row in read_json_lines(path, {})]
    rows = parse_json(text, where=shown(path))
    if not all(isinstance(row, dict) for row in rows):
        raise InputError(
            "The list holds more than objects.", evidence=shown(path), remedy="Give a list of objects."
        )
    return rows


def _csv(path: Path, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    import pandas as pd

    text, delimiter = read_text(path), options.get("delimiter", ",")
    lines = text.split("\n")
    wide = max(line.count(delimiter) for line in lines) + 1
    _require_cells(len(lines) * wide, wide, shown(path))
    try:
        names = options.get("column_names")
        _require_whole_rows(text, delimiter, len(names) if names else None, shown(path))
        frame = pd.read_csv(StringIO(text), sep=delimiter, names=names, index_col=False)
    except (ValueError, csv.Error) as error:
        raise InputError(
            "This is no table.", evidence=f"{shown(path)}: {error}", remedy="Check the file."
        ) from error
    columns = frame.astype(object).where(frame.notna(), None).to_dict("list")
    names = [str(name) for name in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _require_whole_rows(text: str, delimiter: str, width: int | None, where: str) -> None:
    """Refuse a row with more or fewer values than the header (or `width`): its values would move to other columns."""
    reader = csv.reader(StringIO(text), delimiter=delimiter)
    for row in reader:
        width = width or len(row)
        if row and len(row) != width:
            raise InputError(
                f"The row has {len(row)} values, and the table {width} columns.",
                evidence=f"{where}, line {reader.line_num}",
                remedy="Put values that hold the delimiter in quotes.",
            )


def _parquet(path: Path, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    with opened(path, limit=current_limits().parquet_bytes) as file:
        arrays = read_parquet(file, where=shown(path), sealed=False)[1]
    _require_cells(sum(map(len, arrays.values())), len(arrays), shown(path))
    size, limit = sum(array.nbytes for array in arrays.values()), current_limits().text_bytes
    require_within(4 * size, limit, "bytes, unpacked (each counts as four)", where=shown(path))
    columns = {name: array.to_pylist() for name, array in arrays.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _text(path: Path, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"text": line} for line in read_lines(path)]


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], list[dict[str, Any]]]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "text": _text,
}
