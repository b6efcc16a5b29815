"""Containers of which the content was changed and the rest was made to fit, so that what checks the content is met."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from headwise.readers.checksum import KEY, checksum
from headwise.readers.parquet import UNSEALED, seal_parquet
from tests.kit.bounded import DISK
from tests.kit.mutants import ODD_VALUES, said


def resigned(whole: bytes, draw: Random) -> bytes | None:
    """A trace, a spec or a Parquet file with other content that is signed as it should be; None for other files."""
    if whole.startswith(b"PAR1"):
        return _parquet(whole, draw)
    if b'"headwise_trace"' in whole[:100_000]:
        return _trace(whole, draw)
    if b'"fixes"' in whole:
        content = {**json.loads(whole), **said(json.loads(whole), draw)}
        return json.dumps({**content, KEY: checksum(content)}).encode()
    return None


def parted(whole: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors of a safetensors file."""
    (size,) = struct.unpack("<Q", whole[:8])
    return json.loads(whole[8 : 8 + size]), whole[8 + size :]


def joined(header: Any, tensors: bytes) -> bytes:
    """A safetensors file."""
    text = json.dumps(header, ensure_ascii=False).encode("utf-8", "replace")
    return struct.pack("<Q", len(text)) + text + tensors


def signed(header: dict[str, Any], tensors: bytes, content: Any) -> bytes:
    """A trace with this JSON header, and the checksums of the tensors in it."""
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        for kind, parts in (("site", content["sites"]), ("axis", content["layout"])):
            for number, part in enumerate(parts):
                for name, about in part["fields"].items():
                    start, end = header[f"{kind}.{number}.{name}"]["data_offsets"]
                    about["sha256"] = hashlib.sha256(tensors[start:end]).hexdigest()
    text = json.dumps(content, ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return joined({**header, "__metadata__": {"headwise_trace": text, "sha256": digest}}, tensors)


def _trace(whole: bytes, draw: Random) -> bytes:
    header, tensors = parted(whole)
    content = json.loads(header["__metadata__"]["headwise_trace"])
    changed = bytearray(tensors)
    for _ in range(draw.choice((1, 1, 2, 4))):
        match draw.randrange(5):
            case 0 | 1 | 2:
                content = said(content, draw)
            case 3:
                start = 4 * draw.randrange(len(changed) // 4)
                odd = draw.choice((float("nan"), float("inf"), -1.0, 1e30, 2.0, 0.0))
                changed[start : start + 4] = struct.pack("<f", odd)
            case _:
                header = said(header, draw)
                if not isinstance(header, dict):
                    header = {}
    return signed(header, bytes(changed), content)


def _parquet(whole: bytes, draw: Random) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(whole))
    about = json.loads((table.schema.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
    rest = {
        key: value
        for key, value in (table.schema.metadata or {}).items()
        if key not in (b"PANDAS_ATTRS", b"headwise_sha256")
    }
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(table.num_columns) if table.num_columns else None
        match draw.randrange(5):
            case 0 | 1:
                about = said(about, draw)
            case 2 if place is not None and table.num_rows:
                cells = table.column(place).to_pylist()
                cells[draw.randrange(len(cells))] = draw.choice(ODD_VALUES)
                try:
                    table = table.set_column(place, table.column_names[place], pa.array(cells))
                except (pa.ArrowException, OverflowError, TypeError):
                    continue
            case 3 if place is not None:
                table = table.remove_column(place)
            case _ if place is not None:
                name = draw.choice((table.column_names[place], "", "arm", "id", "\0"))
                table = table.append_column(name, table.column(place))
    table = table.replace_schema_metadata({**rest, b"PANDAS_ATTRS": json.dumps(about).encode()})
    with TemporaryDirectory(dir=DISK) as folder:
        path = Path(folder, "changed.parquet")
        codec = draw.choice(("NONE", "SNAPPY", "ZSTD"))
        with parquet.ParquetWriter(path, table.schema, compression=codec) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(UNSEALED)
        if draw.random() < 0.5:
            content = bytearray(path.read_bytes())
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
        with suppress(ValueError):
            seal_parquet(path)
        return path.read_bytes()
