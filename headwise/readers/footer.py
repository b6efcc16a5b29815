"""The parts that the footer of a Parquet file names, read without Arrow: that ends the process over malformed ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

MAGIC = b"PAR1"
"""What a file begins and ends with."""
_MOST = 2_000_000
"""Values in a footer; 10,000 columns have 600,000."""
_DEEP = 16
_WHOLE, _TEXT, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12
_ROW_GROUPS, _COLUMNS, _ROWS, _ABOUT = 4, 1, 3, 3
_ENCODINGS, _CODEC, _VALUES, _SIZE = 2, 4, 5, 6
"""Numbers of types and of fields in the format."""


class Chunk(NamedTuple):
    """A column within a row group; the codec and the encodings are the numbers of the format."""

    codec: int
    encodings: tuple[int, ...]
    values: int
    size: int
    """In bytes, unpacked."""


def footer_of(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer of a Parquet file begins, and its bytes.

    Raises:
        ValueError: it has none.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    length = int.from_bytes(file.read(4), "little")
    if file.read(4) != MAGIC or not 0 < length <= size - 12:
        raise ValueError("it has no footer")
    return file.seek(size - 8 - length), file.read(length)


def row_groups(file: BinaryIO) -> Iterator[tuple[int, list[Chunk]]]:
    """The row groups of a Parquet file: how many rows each has, and its columns.

    Raises:
        ValueError: the footer is malformed or larger than any table needs.
    """
    _, data = footer_of(file)
    try:
        for group in _Footer(data).value(_STRUCT)[_ROW_GROUPS]:
            about = [column[_ABOUT] for column in group[_COLUMNS]]
            chunks = [Chunk(one[_CODEC], tuple(one[_ENCODINGS]), one[_VALUES], one[_SIZE]) for one in about]
            if not all(
                type(number) is int for one in chunks for number in (*one.encodings, one.values, one.size)
            ):
                raise TypeError("a size is no number")
            yield group[_ROWS], chunks
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("its footer is damaged") from error


class _Footer:
    """Values in Thrift's compact protocol; structs are what their numbered fields hold."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._left = data, 0, _MOST

    def value(self, kind: int, depth: int = 0) -> Any:
        """The next value, of a type by its number."""
        self._left -= 1
        if depth > _DEEP or self._left < 0:
            raise ValueError("its footer is deeper or longer than that of any table")
        if kind in (1, 2, 3):
            return self._byte()
        if kind in _WHOLE:
            number = self._number()
            return number >> 1 ^ -(number & 1)
        if kind in (7, _TEXT):
            size = 8 if kind == 7 else self._number()
            self._at += size
            return self._data[self._at - size : self._at]
        if kind in _LISTS:
            head = self._byte()
            size = head >> 4 if head < 0xF0 else self._number()
            return [self.value(head & 15, depth + 1) for _ in range(size)]
        if kind == _STRUCT:
            return dict(self._fields(depth))
        raise ValueError("its footer is damaged")

    def _fields(self, depth: int) -> Iterator[tuple[int, Any]]:
        field = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            field = field + step if step else self.value(4)
            yield field, kind == 1 if kind in (1, 2) else self.value(kind, depth + 1)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _number(self) -> int:
        found = shift = 0
        while (byte := self._byte()) >= 0x80:
            found |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("its footer is damaged")
        return found | byte << shift
