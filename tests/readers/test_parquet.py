"""Parquet files: sealed, and sized before they are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from headwise.errors import InputError
from headwise.readers.parquet import UNSEALED, read_parquet, write_parquet

TABLE = pa.table({"a": [1, 2, 3], "b": pa.array(["x", None, "y" * 300], pa.large_string())})


def read(path: Path) -> dict:
    with path.open("rb") as file:
        return read_parquet(file, where="here")[1]


def test_every_flip_is_seen_before_pyarrow_meets_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit was enough to end the process, in pyarrow's C++."""
    path = tmp_path / "a.parquet"
    write_parquet(path, TABLE.replace_schema_metadata({"note": "here"}))
    assert read(path)["b"].to_pylist() == TABLE["b"].to_pylist()
    monkeypatch.setattr(parquet, "read_metadata", lambda _: pytest.fail("a changed file was parsed"))
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        with pytest.raises(InputError):
            read(path)
    for other in (whole[:-1], whole + b"x", whole + whole, whole[:4], b"PAR1" * 3, whole[4:]):
        path.write_bytes(other)
        with pytest.raises(InputError):
            read(path)


@pytest.mark.parametrize("more", [{}, {**UNSEALED, "more": "headwise_sha256\x18@" + "0" * 64}])
def test_a_file_without_one_place_for_the_checksum_is_refused(tmp_path: Path, more: dict[str, str]) -> None:
    path = tmp_path / "a.parquet"
    with parquet.ParquetWriter(path, TABLE.schema) as writer:
        writer.write_table(TABLE)
        writer.add_key_value_metadata(more)
    with pytest.raises(InputError, match="carries no checksum of headwise"):
        read(path)
