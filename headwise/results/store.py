"""Tables with what is known about them, as files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from headwise.errors import InputError
from headwise.files import check_suffix, replacing, suffix_of
from headwise.readers.checksum import KEY, checksum, require_checksum
from headwise.readers.content import opened, shown, uncollected
from headwise.readers.footer import MAGIC
from headwise.readers.json import parse_json
from headwise.readers.limits import current_limits, require_within
from headwise.readers.parquet import read_parquet, write_parquet
from headwise.results.columns import Column, columns_of, digest, from_arrow, from_json, to_json, to_series
from headwise.results.plain import plain, restored
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".json", ".parquet", ".csv")
FORMAT = 3
"""Version of the files."""
READERS: Mapping[str, str] = MappingProxyType(
    {
        "result": "hw.load_result",
        "evaluation": "hw.load_evaluation",
        "comparison": "hw.load_comparison",
        "search": "hw.load_search",
        "harness result": "hw.load_harness",
    }
)
"""What a file can be -> what reads it."""
_ATTRS = "PANDAS_ATTRS"
"""Where pandas keeps `frame.attrs` in a Parquet file."""
Found = TypeVar("Found")


def save_table(
    path: str | Path, frame: pd.DataFrame, about: Mapping[str, Any], *, what: str, rows: str
) -> Path:
    """Write a table; `.json` and `.parquet` hold everything, `.csv` the rows alone.

    The first two carry what they are, the version of the format, the type of every column, and a checksum over all of
    it. Rows of `.json` are lists, in the order of its `columns`; cells that hold lists or several kinds of things are
    JSON texts in `.parquet`.

    Args:
        path: the suffix chooses the format.
        frame: the rows.
        about: what is known about them, see `plain`.
        what: what it is, one of `READERS`.
        rows: the key under which the rows stand in a JSON file.

    Raises:
        InputError: on another suffix, when the folder does not exist, or when something in it has no place in a file.
    """
    path = Path(path)
    check_suffix(path, SUFFIXES, what=f"{_article(what)} {what}")
    if suffix_of(path) == ".csv":
        with replacing(path) as part:
            frame.to_csv(part, index=False)
        return path
    columns = columns_of(frame)
    content = {what: FORMAT, **plain(about)}
    content[KEY] = checksum(signed(content, columns))
    content["columns"] = {name: column.dtype for name, column in columns.items()}
    with replacing(path) as part:
        if suffix_of(path) == ".json":
            part.write_bytes(_json_text(content, columns, rows))
        else:
            _write_parquet(part, content, columns)
    return path


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table by the names of its columns, see `plain`; None where a number is missing."""
    cells = map(to_json, columns_of(frame).values())
    return [dict(zip(map(str, frame), row, strict=True)) for row in zip(*cells, strict=True)]


@uncollected()
def load_table(
    path: str | Path,
    build: Callable[[Mapping[str, Any], pd.DataFrame], Found],
    *,
    what: str,
    rows: str,
    fields: Mapping[str, type | tuple[type, ...]],
) -> Found:
    """Read what `save_table` wrote as `.json` or `.parquet`, and make of it what it was.

    Args:
        path: the file; what is in it says which of both it is.
        build: from what is known about the table, and the table.
        what: what it should be, one of `READERS`.
        rows: the key under which the rows stand in a JSON file.
        fields: what is known about the table, and the types of that.

    Raises:
        InputError: the file is missing, damaged, changed, too large, of another version, or something else.
    """
    import pandas as pd

    where = shown(path)
    content, cells = _read(path, what, where)
    with _refusals(what, where):
        _check_kind(content, what)
        dtypes = _object(content.pop("columns"))
    require_within(len(dtypes), current_limits().columns, "columns", where=where)
    with _refusals(what, where):
        columns = table_columns(cells if cells is not None else content.pop(rows), dtypes)
        given = content.pop(KEY)
    require_checksum({**signed(content, columns), KEY: given}, where=where)
    with _refusals(what, where):
        about = {name: restored(value) for name, value in content.items() if name != what}
        if set(about) != set(fields):
            raise ValueError(f"fields: {', '.join(sorted(set(about) ^ set(fields)))}")
        for name, kind in fields.items():
            if not isinstance(about[name], kind):
                raise ValueError(f"{name} is {repr(about[name])[:60]}")
        return build(
            about, pd.DataFrame({name: to_series(item) for name, item in columns.items()}, copy=False)
        )


def _read(path: str | Path, what: str, where: str) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """What the file says, and the columns of a Parquet file."""
    limits = current_limits()
    with opened(path, limit=limits.parquet_bytes, what=f"the {what}") as file:
        if file.read(len(MAGIC)) == MAGIC:
            metadata, cells = read_parquet(file, where=where)
            data = metadata.get(_ATTRS, b"{}")
        else:
            require_within(os.fstat(file.fileno()).st_size, limits.text_bytes, "bytes", where=where)
            file.seek(0)
            data, cells = file.read(), None
    try:
        content = parse_json(data, where=where)
    except InputError as error:
        if "larger" in error.fact:
            raise
        binary = suffix_of(path) == ".parquet" and cells is None
        reason = "it does not begin as Parquet does" if binary else error.fact
        raise _no(what, where, reason if data else "it is empty") from error
    with _refusals(what, where):
        return _object(content), cells


def _check_kind(content: Mapping[str, Any], what: str) -> None:
    """Refuse a file that is something else, or of another version."""
    other = next((kind for kind in READERS if type(content.get(kind)) is int), None)
    if other is None:
        raise ValueError("it names no format, as files of this version do")
    if other != what:
        raise ValueError(f"it is {_article(other)} {other}, which {READERS[other]} reads")
    if content[what] != FORMAT:
        raise ValueError(f"it has format {content[what]}, and this version of headwise reads {FORMAT}")


def table_columns(cells: Any, dtypes: Mapping[str, Any]) -> dict[str, Column]:
    """The columns of a file: arrays by name of a Parquet file, a list of rows of a JSON file."""
    if isinstance(cells, dict):
        if list(cells) != list(dtypes):
            raise ValueError("its columns are not those that it names")
        return {name: from_arrow(dtype, cells[name]) for name, dtype in dtypes.items()}
    if not isinstance(cells, list):
        raise TypeError("its rows are no list")
    if set(map(type, cells)) > {list} or not set(map(len, cells)) <= {len(dtypes)}:
        raise ValueError("a row does not have the columns of the table")
    parts = zip(*cells, strict=True) if cells else [()] * len(dtypes)
    return {name: from_json(dtypes[name], part) for name, part in zip(dtypes, parts, strict=True)}


def signed(content: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    """What the checksum is made of: what is known about the table, and a digest of every column."""
    return {**content, "columns": [[name, item.dtype, digest(item)] for name, item in columns.items()]}


def _json_text(content: Mapping[str, Any], columns: Mapping[str, Column], rows: str) -> bytes:
    """Everything, a line for every row."""
    write = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    head = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    cells = zip(*map(to_json, columns.values()), strict=True)
    lines = ",\n".join(f"  {write(row)}" for row in cells)
    return f'{head},\n "{rows}": [\n{lines}\n ]\n}}'.encode()


def _write_parquet(path: Path, content: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
    import pyarrow as pa

    table = pa.table({name: column.array for name, column in columns.items()})
    attrs = json.dumps(content, ensure_ascii=False, allow_nan=False)
    write_parquet(path, table.replace_schema_metadata({_ATTRS: attrs}))


@contextmanager
def _refusals(what: str, where: str) -> Iterator[None]:
    """Turns what goes wrong with the content of a file into one error."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        lacks = isinstance(error, KeyError)
        raise _no(what, where, f"it lacks {error}" if lacks else str(error)) from error


def _no(what: str, where: str, reason: str) -> InputError:
    return InputError(
        f"This file is no {what} that this version of headwise reads.",
        evidence=f"{where}: {visible(' '.join(reason.split()), limit=200)}",
        remedy=f"Give a .json or .parquet file written by {what.title().replace(' ', '')}.save.",
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("what should be an object is none")
    return value


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
