"""Small specs, traces and tables that ask for much; those with valid checksums are met behind them, too."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from headwise.readers.checksum import KEY, checksum
from headwise.readers.parquet import UNSEALED, seal_parquet
from headwise.results.store import FORMAT, table_columns
from headwise.results.store import signed as signed_content
from tests.kit.bounded import MEGABYTES
from tests.kit.resigned import parted, signed
from tests.kit.stored import STORED

SPEC = 4 * 2**20
"""Bytes of a spec."""


@cache
def whole(name: str) -> bytes:
    """A file of a kind as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{STORED[name].suffix}")
        STORED[name].write(path)
        return path.read_bytes()


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _spec(unit: str, *, first: str = "", last: str = "0", key: str = "x") -> bytes:
    """A spec with a parameter of units."""
    content = json.loads(whole("spec"))
    del content[KEY]
    content["fixes"][0]["parameters"][key] = "HERE"
    head, tail = _text(content).split('"HERE"')
    return (head + first + unit * ((SPEC - 4000) // len(unit)) + last + tail).encode()


def _numbered(unit: str, size: int) -> str:
    found, left = [], size
    for number in range(size):
        found.append(unit.replace("{n}", str(number)))
        left -= len(found[-1])
        if left < 100:
            break
    return "".join(found)


SPECS: Mapping[str, Callable[[], bytes]] = {
    "numbers": lambda: _spec("0,", first="[", last="0]"),
    "as many as may be": lambda: _spec("1" * 15 + " " * 29 + ",", first="[", last="0]"),
    "heads": lambda: _spec("[0," + " " * 120 + "0],", first="[", last="[0,0]]", key="heads"),
    "open lists": lambda: _spec("[", last=""),
    "lists": lambda: _spec("[],", first="[", last="[]]"),
    "digits": lambda: _spec("9"),
    "a text": lambda: _spec("a", first='"', last='"'),
    "backslashes": lambda: _spec("\\\\", first='"', last='"'),
    "halves of characters": lambda: _spec("\\ud800", first='"', last='"'),
    "names": lambda: _spec(_numbered('"{n}":' + " " * 50 + "1,", SPEC - 5000), first="{", last='"":1}'),
    "names, too many": lambda: _spec(_numbered('"{n}":1,', SPEC - 5000), first="{", last='"":1}'),
    "one name": lambda: _spec('"a":1' + " " * 60 + ",", first="{", last='"":1}'),
    "fixes": lambda: whole("spec").replace(
        b'"fixes": [', b'"fixes": [' + b'{"fix":"VAR","parameters":{}},' * 100_000
    ),
    "spaces": lambda: whole("spec") + b" " * (SPEC - 5000),
}


def _trace(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A trace with other content behind valid checksums."""
    header, tensors = parted(whole("trace"))
    content = json.loads(header["__metadata__"]["headwise_trace"])
    change(content)
    return signed(header, tensors, content)


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _tokens(length: int) -> bytes:
    """A trace of one long text, which fits together."""
    content = json.loads(parted(whole("trace"))[0]["__metadata__"]["headwise_trace"])
    axis = content["layout"][0]
    rest = {"roles": np.zeros((1, length), np.uint8)}
    axis["tokens"], axis["images"] = [["a"] * length], []
    names = {"U8": "uint8"}
    axis["fields"], found, data = {}, {}, b""
    for name, array in rest.items():
        raw = array.tobytes()
        found[f"axis.0.{name}"] = {
            "dtype": "U8",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        axis["fields"][name] = {
            "dtype": names["U8"],
            "shape": list(array.shape),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        data += raw
    content["sites"], content["layout"] = [], [axis]
    content["meta"] = {}
    return signed(found, data, content)


def _set(name: str, value: Any, content: dict[str, Any]) -> None:
    content["meta"][name] = value


def _extend(name: str, times: int, content: dict[str, Any]) -> None:
    content[name] = content[name] * times


def _images(content: dict[str, Any]) -> None:
    span = {"example": 0, "image": 0, "start": 0, "length": 1, "grid": None, "places": [0]}
    content["layout"][0]["images"] = [span] * 100_000


def _places(content: dict[str, Any]) -> None:
    span = {
        "example": 0,
        "image": 0,
        "start": 0,
        "length": 3_000_000,
        "grid": None,
        "places": [0] * 3_000_000,
    }
    content["layout"][0]["images"] = [span]


def _fields(content: dict[str, Any]) -> None:
    field = next(iter(content["sites"][0]["fields"].values()))
    content["sites"][0]["fields"] = {str(number): field for number in range(50_000)}


def _entry(number: int, shape: str = "[0]") -> str:
    return f'"{number}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}'


TRACES: Mapping[str, Callable[[], bytes]] = {
    "a header of exabytes": lambda: struct.pack("<Q", 2**62) + bytes(1000),
    "a header of the file": lambda: struct.pack("<Q", MEGABYTES - 8) + b"{" + b" " * (MEGABYTES - 9),
    "spaces": lambda: _header(b"{" + b" " * (MEGABYTES - 100) + b"}"),
    "open lists": lambda: _header(b'{"a":' + b"[" * (MEGABYTES - 100)),
    "tensors": lambda: _header(("{" + ",".join(map(_entry, range(150_000))) + "}").encode()),
    "shapes of many axes": lambda: _header(("{" + _entry(0, f"[{'0,' * 4_900_000}0]") + "}").encode()),
    "shapes beyond numbers": lambda: _header(
        ("{" + _entry(0, "[4294967296,4294967296,4294967296,0]") + "}").encode()
    ),
    "metadata": lambda: _header(
        ('{"__metadata__":{' + ",".join(f'"{number}":""' for number in range(800_000)) + "}}").encode()
    ),
    "a name": lambda: _header(
        ('{"' + "a" * (MEGABYTES - 100) + '":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}').encode()
    ),
    "content that is no JSON": lambda: signed({}, b"", "[" * 9_000_000),
    "content of lists": lambda: signed({}, b"", [[]] * 2_400_000),
    "content of tensors": lambda: _trace(_fields),
    "tokens": lambda: _tokens(900_000),
    "sites": lambda: _trace(partial(_extend, "sites", 3_000)),
    "axes": lambda: _trace(partial(_extend, "layout", 15_000)),
    "images": lambda: _trace(_images),
    "places": lambda: _trace(_places),
    "examples": lambda: _trace(partial(_set, "returned", [0] * 3_000_000)),
    "warnings": lambda: _trace(partial(_set, "warnings", [""] * 1_600_000)),
    "ids": lambda: _trace(partial(_set, "ids", ["a"] * 900_000)),
    "absent numbers": lambda: _trace(
        partial(_set, "nonfinite", [{"site": "", "what": "q", "count": 0, "of": 0}] * 150_000)
    ),
    "a text": lambda: _trace(partial(_set, "call", "a" * 9_900_000)),
}


def _table(
    what: str, dtypes: Mapping[str, str], cell: Any, *, about: Any = None, size: int = MEGABYTES
) -> bytes:
    """A JSON file of a table of one cell again and again, behind a valid checksum."""
    rows = "heads" if what == "result" else "examples"
    content = json.loads(whole({"result": "result of heads .json"}.get(what, f"{what} .json")))
    for name in ("columns", rows, KEY):
        del content[name]
    content |= about or {}
    head = _text({**content, KEY: "0" * 64, "columns": dtypes})[:-1] + f',"{rows}":['
    row = _text([cell] * len(dtypes)) + ","
    cells = [[cell] * len(dtypes)] * ((size - len(head) - 3) // len(row))
    content[KEY] = checksum(signed_content(content, table_columns(cells, dtypes)))
    head = _text({**content, "columns": dtypes})[:-1] + f',"{rows}":['
    return (head + (row * len(cells)).removesuffix(",") + "]}").encode()


def _columns(what: str) -> bytes:
    """A table of one row and 500,000 columns; its checksum is never looked at."""
    numbers = range(500_000)
    content = {what: FORMAT, KEY: "0" * 64, "columns": {str(number): "int8" for number in numbers}}
    return _text({**content, ("heads" if what == "result" else "examples"): [[1 for _ in numbers]]}).encode()


def _tables(what: str) -> Mapping[str, Callable[[], bytes]]:
    """Tables of a kind in JSON."""
    one = {
        kind: partial(_table, what, {"id": kind}, cell)
        for kind, cell in (
            *(("int64", 1), ("float64", 1.5), ("bool", True), ("Int64", None), ("str", ""), ("object", None)),
            *(("json", []), ("json", {"$float": "nan"}), ("float32", {"$float": "nan"}), ("boolean", None)),
        )
    }
    return {f"a column of {kind}": bomb for kind, bomb in one.items()} | {
        "columns": partial(_table, what, {str(number): "float64" for number in range(9_999)}, 1),
        "more columns": partial(_columns, what),
        "texts of columns": partial(_table, what, {str(number): "str" for number in range(9_999)}, "a"),
        "manifest": partial(
            _table,
            what,
            {"id": "int8"},
            1,
            about={"manifest": {str(n): [[]] for n in range(600_000)}},
            size=1,
        ),
        "lists in the manifest": partial(
            _table, what, {"id": "int8"}, 1, about={"manifest": {"a": [[]] * 3_000_000}}, size=1
        ),
    }


def _parquet(what: str, write: Callable[[Any], Any], **options: Any) -> bytes:
    """A sealed Parquet file of a table that is written in other ways than headwise does; groups of `rows`."""
    import pyarrow as pa
    from pyarrow import parquet

    table = write(pa)
    dtypes = {name: _NAMES[str(table.schema.field(name).type)] for name in table.column_names}
    content = json.loads(whole({"result": "result of heads .json"}.get(what, f"{what} .json")))
    for name in ("columns", "heads" if what == "result" else "examples", KEY):
        del content[name]
    content |= options.pop("about", {})
    arrays = {name: _plain(table[name]) for name in table.column_names}
    content[KEY] = checksum(signed_content(content, table_columns(arrays, dtypes)))
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


def _packed(what: str) -> Mapping[str, Callable[[], bytes]]:
    """Tables of a kind in Parquet."""
    made = partial(_parquet, what)
    return {
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
        "manifest": lambda: made(partial(_constant, 1, 1, "int8"), about={"manifest": {"a": [[]] * 900_000}}),
    }


TABLES = _tables("evaluation")
PACKED = _packed("evaluation")
