"""Small tables of every kind that ask for much, behind valid checksums."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from headwise.readers.checksum import KEY, checksum
from headwise.readers.parquet import UNSEALED, seal_parquet
from headwise.results.store import FORMAT, signed, table_columns
from tests.kit.bombs_stored import text_of, whole
from tests.kit.bounded import MEGABYTES
from tests.kit.result_files import ROWS

FULL = {"result": "result of heads"}
"""What is told apart further -> the one of its files that is blown up."""
KINDS = ("result", "evaluation", "comparison", "search", "harness result")


def _content(what: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What a file of a kind says about its table, and the name, types and cells of that."""
    content = json.loads(whole(f"{FULL.get(what, what)} .json"))
    rows = next(name for name in ROWS if name in content)
    del content[KEY]
    return content, rows, {"columns": content.pop("columns"), "cells": content.pop(rows)}


def _written(content: dict[str, Any], rows: str, dtypes: Mapping[str, str], cells: list[Any]) -> bytes:
    """A JSON file with a valid checksum; rows that are one and the same object are written once."""
    content = {**content, KEY: checksum(signed(content, table_columns(cells, dtypes)))}
    head = text_of({**content, "columns": dtypes})[:-1] + f',"{rows}":['
    same = len({id(row) for row in cells}) == 1
    body = (text_of(cells[0]) + ",") * len(cells) if same else ",".join(map(text_of, cells))
    return (head + body.removesuffix(",") + "]}").encode()


def _table(
    what: str, dtypes: Mapping[str, str], cell: Any, *, about: Any = None, size: int = MEGABYTES
) -> bytes:
    """A JSON file of a table of one cell again and again."""
    content, rows, _ = _content(what)
    content |= about or {}
    row = [cell] * len(dtypes)
    left = size - len(text_of(content | {"columns": dtypes, KEY: "0" * 64})) - len(rows) - 8
    return _written(content, rows, dtypes, [row] * (left // (len(text_of(row)) + 1)))


def _numbered_rows(what: str) -> bytes:
    """A file whose last row stands there again and again, with another name: nothing but their number is odd."""
    content, rows, table = _content(what)
    names, last = list(table["columns"]), table["cells"][-1]
    place = names.index(next(name for name in ("trial", "example", "id") if name in names))
    number = type(last[place])
    left, cells = MEGABYTES - len(text_of(content)) - 10_000, [*table["cells"]]
    for count in range(len(cells), MEGABYTES):
        cells.append([*last[:place], number(count), *last[place + 1 :]])
        left -= len(text_of(cells[-1])) + 1
        if left < 0:
            break
    return _written(content, rows, table["columns"], cells[:-1])


def _places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where lists and objects stand in what a file says; items of a list of objects are one place."""
    if isinstance(value, list | dict) and value and place:
        yield place
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1]
    for name, part in value.items() if isinstance(value, dict) else ():
        yield from _places(part, (*place, name))


@cache
def _own_places(what: str) -> list[tuple[str, ...]]:
    """The places of a kind, without those in records that an earlier kind has, too, such as its manifest."""
    before = KINDS[: KINDS.index(what)]
    known = {_within(place) for kind in before for place in _places(_content(kind)[0])}
    return [place for place in _places(_content(what)[0]) if _within(place) not in known]


def _within(place: tuple[str, ...]) -> tuple[str, ...]:
    """A place within the record that files of several kinds hold."""
    place = place[1:] if place[0] == "test" else place
    return place[place.index("manifest") :] if "manifest" in place else place


def _found(value: Any, place: tuple[str, ...]) -> Iterator[Any]:
    several: list[Any] = value if isinstance(value, list) and place else [value]
    for item in several:
        if item and not place:
            yield item
        elif item:
            yield from _found(item[place[0]], place[1:])


def _copy(item: Any, number: int) -> Any:
    """An item under a name of its own."""
    if isinstance(item, str):
        return str(number)
    if isinstance(item, dict):
        name = next((name for name in ("label", "metric", "id") if name in item), None)
        return {**item, name: str(number)} if name else item
    return item


def _many(what: str, place: tuple[str, ...]) -> bytes:
    """A file in which the last item of what stands at a place stands there again and again."""
    content, rows, table = _content(what)
    several = list(_found(content, place))
    for found in several:
        last = list(found.values())[-1] if isinstance(found, dict) else found[-1]
        size = len(text_of(last)) + (
            10 if isinstance(found, dict) else 1 if isinstance(last, int | float | list) else 6
        )
        numbers = range((MEGABYTES - 100_000) // len(several) // (size + 1))
        if isinstance(found, dict):
            found |= {str(number): last for number in numbers}
        else:
            found += [_copy(last, number) for number in numbers]
    return _written(content, rows, table["columns"], table["cells"])


def _columns(what: str) -> bytes:
    """A table of one row and 500,000 columns; its checksum is never looked at."""
    numbers = range(500_000)
    content = {what: FORMAT, KEY: "0" * 64, "columns": {str(number): "int8" for number in numbers}}
    return text_of({**content, _content(what)[1]: [[1 for _ in numbers]]}).encode()


def tables(what: str) -> Mapping[str, Callable[[], bytes]]:
    """Tables of a kind in JSON; columns of every type in one of the kinds, since one reader makes all their tables."""
    cells: dict[str, tuple[str, Any]] = {
        **{
            kind: (kind, cell) for kind, cell in (("int64", 1), ("float64", 1.5), ("bool", True), ("str", ""))
        },
        **{kind: (kind, None) for kind in ("Int64", "object", "boolean")},
        "float32": ("float32", {"$float": "nan"}),
        "json": ("json", []),
        "numbers in json": ("json", {"$float": "nan"}),
    }
    some = cells if what in FULL else ("str", "json")
    one = {
        name: partial(_table, what, {"id": kind}, cell)
        for name, (kind, cell) in cells.items()
        if name in some
    }
    return {f"a column of {name}": bomb for name, bomb in one.items()} | {
        "columns": partial(_table, what, {str(number): "float64" for number in range(9_999)}, 1),
        "more columns": partial(_columns, what),
        "texts of columns": partial(_table, what, {str(number): "str" for number in range(9_999)}, "a"),
        "rows that are sound": partial(_numbered_rows, what),
        **{".".join(place): partial(_many, what, place) for place in _own_places(what)},
        "lists": partial(_table, what, {"id": "int8"}, 1, about={"lists": [[]] * 3_000_000}, size=1),
    }


def _parquet(what: str, write: Callable[[Any], Any], **options: Any) -> bytes:
    """A sealed Parquet file of a table that is written in other ways than headwise does; groups of `rows`."""
    import pyarrow as pa
    from pyarrow import parquet

    table = write(pa)
    dtypes = {name: _NAMES[str(table.schema.field(name).type)] for name in table.column_names}
    content = _content(what)[0] | options.pop("about", {})
    arrays = {name: _plain(table[name]) for name in table.column_names}
    content[KEY] = checksum(signed(content, table_columns(arrays, dtypes)))
    content["columns"] = dtypes
    table = table.replace_schema_metadata({"PANDAS_ATTRS": json.dumps(content)})
    rows = options.pop("rows", 2**20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.parquet")
        with parquet.ParquetWriter(path, table.schema, **options) as writer:
            writer.write_table(table, row_group_size=rows)
            writer.add_key_value_metadata(UNSEALED)
        seal_parquet(path)
        return path.read_bytes()


_NAMES = {
    "double": "float64",
    "bool": "bool",
    "int8": "int8",
    "int64": "Int64",
    "large_string": "str",
    "float": "float32",
}


def _plain(column: Any) -> Any:
    found = column.combine_chunks()
    return found.combine_chunks() if hasattr(found, "combine_chunks") else found


def _constant(number: int, value: Any, kind: str, pa: Any) -> Any:
    return pa.table({"id": pa.repeat(pa.scalar(value, getattr(pa, kind)()), number)})


def _wide(columns: int, rows: int, value: Any, kind: str, pa: Any) -> Any:
    column = pa.repeat(pa.scalar(value, getattr(pa, kind)()), rows)
    return pa.table({str(number): column for number in range(columns)})


def packed(what: str) -> Mapping[str, Callable[[], bytes]]:
    """Tables of a kind in Parquet; all of them in one of the kinds, as in `tables`."""
    made = partial(_parquet, what)
    found = {
        "a column of numbers": lambda: made(partial(_constant, 19_900_000, 1.5, "float64")),
        "a column of switches": lambda: made(partial(_constant, 19_900_000, True, "bool_")),
        "a column of nothing": lambda: made(partial(_constant, 19_900_000, None, "int64")),
        "a column of small numbers": lambda: made(partial(_constant, 19_900_000, 1, "int8")),
        "a column of texts": lambda: made(partial(_constant, 3_900_000, "a", "large_string")),
        "a column of empty texts": lambda: made(partial(_constant, 3_900_000, "", "large_string")),
        "a column of no texts": lambda: made(partial(_constant, 3_900_000, None, "large_string")),
        "long texts": lambda: made(partial(_constant, 250, "a" * 1_000_000, "large_string")),
        "longer texts": lambda: made(partial(_constant, 300, "a" * 1_000_000, "large_string")),
        "long texts, written out": lambda: made(
            partial(_constant, 200, "a" * 1_000_000, "large_string"), use_dictionary=False
        ),
        "numbers, written out": lambda: made(
            partial(_constant, 19_900_000, 1.5, "float64"), use_dictionary=False
        ),
        "columns": lambda: made(partial(_wide, 9_999, 1_900, 1.5, "float64")),
        "columns of texts": lambda: made(partial(_wide, 9_999, 390, "a", "large_string")),
        "more columns": lambda: made(partial(_wide, 20_000, 1, 1, "int8")),
        "groups": lambda: made(partial(_constant, 50_000, 1, "int8"), rows=1),
        "groups of texts": lambda: made(partial(_constant, 16_000, "a" * 100, "large_string"), rows=1),
        "groups of columns": lambda: made(partial(_wide, 1_000, 50, 1, "int8"), rows=1),
        "small pages": lambda: made(
            partial(_constant, 150_000, 1, "int8"), data_page_size=1, write_batch_size=1
        ),
        "manifest": lambda: made(partial(_constant, 1, 1, "int8"), about={"lists": [[]] * 900_000}),
    }
    return (
        found if what in FULL else {name: found[name] for name in ("a column of texts", "groups", "manifest")}
    )
