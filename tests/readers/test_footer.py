"""What the footer of a Parquet file says, against Arrow's word, and damaged."""

from __future__ import annotations

import io
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from headwise.readers.footer import row_groups


def written(rows: int = 40, *, group: int = 40, codec: str = "SNAPPY") -> bytes:
    table = pa.table(
        {"a": range(rows), "b": [f"x{n % 3}" for n in range(rows)], "c": [n % 2 == 0 for n in range(rows)]}
    )
    parquet.write_table(table, held := io.BytesIO(), row_group_size=group, compression=codec)
    return held.getvalue()


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "ZSTD"])
@pytest.mark.parametrize("group", [1, 7, 40])
def test_it_says_what_arrow_says(group: int, codec: str) -> None:
    held = io.BytesIO(written(group=group, codec=codec))
    whole = parquet.read_metadata(held)
    found = list(row_groups(held))
    assert len(found) == whole.num_row_groups
    for number, (rows, chunks) in enumerate(found):
        about = whole.row_group(number)
        columns = [about.column(place) for place in range(about.num_columns)]
        assert rows == about.num_rows
        assert [chunk.values for chunk in chunks] == [column.num_values for column in columns]
        assert [chunk.size for chunk in chunks] == [column.total_uncompressed_size for column in columns]
        assert [len(set(chunk.encodings)) for chunk in chunks] == [len(set(one.encodings)) for one in columns]
        assert {chunk.codec for chunk in chunks} == {{"NONE": 0, "SNAPPY": 1, "ZSTD": 6}[codec]}


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_footer_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(written(9, group=4))
    for place in data.draw(st.lists(st.integers(1, 1200), min_size=1, max_size=4)):
        content[-place] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(ValueError):
        found = list(row_groups(io.BytesIO(content)))
        assert all(type(chunk.size) is int for _, chunks in found for chunk in chunks)


@pytest.mark.parametrize(
    "footer",
    [b"", b"\x49\xfc" + b"\xff" * 9, b"\x49\xfb\xff\xff\xff\x7f\x01", b"\x1c" * 99],
)
def test_a_footer_that_promises_too_much(footer: bytes) -> None:
    with pytest.raises(ValueError, match="footer"):
        list(row_groups(io.BytesIO(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")))
