"""Files of results as a stranger could write them: any content, under a checksum that is right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from headwise.errors import InputError
from headwise.readers.checksum import checksum
from headwise.readers.parquet import read_parquet, write_parquet
from headwise.results.store import signed, table_columns

SMALL = 1000
"""Bytes of a file of which every bit is flipped."""
ROWS = ("rows", "examples", "trials")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write what `source` says to `target`, with a change, and the checksum of that."""
    if source.suffix == ".json":
        content = json.loads(source.read_text(encoding="utf-8"))
        change(content)
        rows = next(name for name in ROWS if name in content)
        said = {name: value for name, value in content.items() if name not in ("columns", rows)}
        with suppress(ValueError):  # cells that are no values have no checksum
            content["sha256"] = checksum(signed(said, table_columns(content[rows], content["columns"])))
        target.write_text(json.dumps(content), encoding="utf-8")
        return target
    with source.open("rb") as file:
        metadata, cells = read_parquet(file, where="here")
    content = json.loads(metadata["PANDAS_ATTRS"])
    change(content)
    said = {name: value for name, value in content.items() if name != "columns"}
    content["sha256"] = checksum(signed(said, table_columns(cells, content["columns"])))
    table = parquet.read_table(source).replace_schema_metadata({"PANDAS_ATTRS": json.dumps(content)})
    write_parquet(target, table)
    return target


def flip_bits(path: Path, check: Callable[[], object], *, most: int = 1000) -> None:
    """Flip single bits, all of a small file, 1,000 of others: refused, or `check` finds what was saved."""
    whole = path.read_bytes()
    bits = 8 * len(whole)
    every = range(bits) if len(whole) <= SMALL else random.Random(0).sample(range(bits), most)
    refused = 0
    for bit in every:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        try:
            check()
        except InputError:
            refused += 1
    assert refused > len(every) // 4
    for cut in range(0, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError):
            check()
    path.write_bytes(whole + whole)
    with pytest.raises(InputError):
        check()
