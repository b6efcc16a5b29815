"""Files of results as a stranger could write them: any content, under a checksum that is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow import parquet

from headwise.readers.checksum import checksum
from headwise.readers.parquet import read_parquet, write_parquet
from headwise.results.store import signed, table_columns

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
