"""Parquet from others: flat columns of numbers and texts, sized before they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from headwise.errors import InputError
from headwise.readers.checksum import changed
from headwise.readers.footer import footer_of, row_groups
from headwise.readers.limits import current_limits, require_within

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData

CODECS = (0, 1)
"""None and Snappy: compression that cannot blow up; what pandas writes."""
ENCODINGS = (0, 2, 3, 4, 8)
"""Plain, runs, packed bits, dictionaries."""
_NUMBERS = (
    "bool",
    "float",
    "double",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_TEXTS = ("string", "large_string")
_WEIGHT = 5
"""Cells of numbers that a cell of text counts as."""
_SEAL, _DIGITS = "headwise_sha256", 64
UNSEALED: Mapping[str, str] = {_SEAL: "0" * _DIGITS}
_PLACE = re.compile(
    _SEAL.encode() + rb"\x18@([0-9a-f]{64})"
)  # a name and a value of 64 letters, as a footer has them
_BLOCK = 2**20


def write_parquet(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table; the footer holds the SHA-256 of all other bytes, so that damage is seen before pyarrow meets it.

    Args:
        path: the file.
        table: flat columns of numbers and texts, with its metadata.
    """
    from pyarrow import parquet

    with parquet.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(UNSEALED)
    seal_parquet(path)


def seal_parquet(path: str | os.PathLike[str]) -> None:
    """Put the checksum into a Parquet file that was written with `UNSEALED` among its metadata.

    Raises:
        ValueError: it has no place for one.
    """
    with open(path, "r+b") as file:
        place, _ = _seal(file)
        found = _digest(file, place)
        file.seek(place)
        file.write(found)


def _seal(file: BinaryIO) -> tuple[int, bytes]:
    """Where the checksum stands in a file, and what it says."""
    start, footer = footer_of(file)
    found = [*_PLACE.finditer(footer)]
    if len(found) != 1:
        raise ValueError("it carries no checksum of headwise")
    return start + found[0].start(1), found[0][1]


def _digest(file: BinaryIO, place: int) -> bytes:
    """The SHA-256 of a file without the letters at a place."""
    total = sha256()
    file.seek(0)
    for end in (place, None):
        while block := file.read(_BLOCK if end is None else min(_BLOCK, end - file.tell())):
            total.update(block)
        file.seek(place + _DIGITS)
    return total.hexdigest().encode()


def read_parquet(
    file: BinaryIO, *, where: str, sealed: bool = True
) -> tuple[Mapping[str, bytes], dict[str, pa.Array]]:
    """The metadata and the columns of a Parquet file that `write_parquet` wrote; texts are `large_string`.

    Args:
        file: opened for reading.
        where: the file, for messages.
        sealed: `write_parquet` wrote it; False for one from elsewhere, which carries no checksum.

    Raises:
        InputError: it is no Parquet, was changed by a byte, holds other columns than numbers and texts, is
            compressed or encoded otherwise than pandas does, or is larger than the limits: the footer and the
            dictionaries of texts say so before anything is unpacked.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if sealed:
            place, given = _seal(file)
            if given != _digest(file, place):
                raise changed(where, f"its {_SEAL} is that of other content")
        file.seek(0)
        metadata = parquet.read_metadata(file)
        texts = _checked(file, metadata, where)
        file.seek(0)
        # Texts stay in their dictionaries: thus a long one that is repeated takes its room once, and encodings by
        # which a text continues the one before are refused.
        table = parquet.ParquetFile(file, read_dictionary=texts, pre_buffer=False).read(use_threads=False)
        require_within(
            sum(map(_expanded, (table[name] for name in texts))),
            current_limits().text_bytes,
            "bytes of text",
            where=where,
        )
        columns = {name: _whole(table[name]) for name in table.column_names}
        about = {name.decode(): text for name, text in (metadata.metadata or {}).items()}
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError, OverflowError) as error:
        raise InputError(
            "This is no Parquet file that can be read.",
            evidence=f"{where}: {' '.join(str(error).split())[:160]}",
            remedy="Fetch a whole copy, or write it again with pandas.",
        ) from error
    return about, columns


def _checked(file: BinaryIO, metadata: FileMetaData, where: str) -> list[str]:
    """The columns of text, when all that the footer says is within bounds."""
    limits = current_limits()
    require_within(metadata.num_columns, limits.columns, "columns", where=where)
    kinds = {field.name: str(field.type) for field in metadata.schema.to_arrow_schema()}
    strange = [name for name, kind in kinds.items() if kind not in (*_NUMBERS, *_TEXTS)]
    if strange or len(kinds) != metadata.num_columns:
        raise ValueError(f"columns of another kind than numbers and texts: {strange[:3]}")
    texts = [name for name, kind in kinds.items() if kind in _TEXTS]
    weight = len(kinds) + (_WEIGHT - 1) * len(texts)
    size = rows = 0
    for count, chunks in row_groups(file):
        rows += count
        for chunk in chunks:
            size += chunk.size
            if chunk.codec not in CODECS or not set(chunk.encodings) <= set(ENCODINGS):
                raise ValueError(f"compressed or encoded otherwise: {chunk.codec}, {chunk.encodings}")
            if chunk.values != count:
                raise ValueError(f"a column of {chunk.values} values in {count} rows")
        require_within(rows * weight, limits.parquet_cells, "cells (a text counts as five)", where=where)
        require_within(size, limits.parquet_bytes, "bytes, unpacked", where=where)
    if rows != metadata.num_rows or rows < 0:
        raise ValueError(f"{rows} rows in parts, {metadata.num_rows} in all")
    return texts


def _expanded(column: pa.ChunkedArray) -> int:
    """Bytes of text that a column in dictionaries stands for."""
    import pyarrow.compute as pc

    return sum(
        pc.sum(pc.take(pc.binary_length(part.dictionary), part.indices)).as_py() or 0
        for part in column.chunks
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array(
            [part.dictionary_decode().cast(pa.large_string()) for part in column.chunks], pa.large_string()
        )
    found = column.combine_chunks()
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found
