"""Columns of a table as files hold them: a type by its name, the exact values, and a digest of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwise.errors import InputError
from headwise.readers.json import parse_json
from headwise.results.plain import plain, restored
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
NUMBERS: Mapping[str, str] = MappingProxyType(
    {"bool": "bool", **{name: name for name in _WHOLE}}
    | {"float16": "float", "float32": "float", "float64": "double"}
)
"""Type of a column of numbers -> that of Arrow."""
NULLABLE: Mapping[str, str] = MappingProxyType(
    {name.replace("uint", "UInt").replace("int", "Int"): name for name in _WHOLE}
    | {"boolean": "bool", "Float32": "float", "Float64": "double"}
)
"""The same, of numbers that may be missing."""
TEXTS = ("str", "object", "string")
"""Types of columns of texts that may be missing."""
MIXED = "json"
"""Columns of anything else: their cells are JSON."""
_JSON_TYPES = {"b": {bool}, "i": {int}, "u": {int}, "f": {float, int, dict, type(None)}}


class Column(NamedTuple):
    """A column: the name of its type, and its values as Arrow holds them."""

    dtype: str
    array: pa.Array


def columns_of(frame: pd.DataFrame) -> dict[str, Column]:
    """The columns of a table by name.

    Raises:
        InputError: a name is no text or stands twice, or a column holds what files cannot.
    """
    names = list(frame)
    strange = [name for name in names if not isinstance(name, str) or names.count(name) > 1]
    if strange:
        raise InputError(
            "Columns of a table that is saved are named by texts, each once.",
            evidence=f"column {visible(repr(strange[0]), limit=60)}",
            remedy="Rename it.",
        )
    found = {}
    for name in names:
        try:
            found[name] = _column(frame[name])
        except (InputError, UnicodeError, OverflowError, TypeError, ValueError) as error:
            raise InputError(
                f"The column {visible(str(name), limit=60)!r} cannot be saved.",
                evidence=visible(str(error), limit=200),
                remedy="Give numbers or texts, for example with .astype(str).",
            ) from error
    return found


def from_json(dtype: str, values: Sequence[Any]) -> Column:
    """A column from the cells of a JSON file.

    Raises:
        ValueError: a cell is not of that type.
    """
    import pandas as pd
    import pyarrow as pa

    if dtype in NUMBERS:
        kinds = _checked(values, _JSON_TYPES[np.dtype(dtype).kind], dtype)
        if dict in kinds:
            values = [restored(item) for item in values]
            _checked(values, {float, int, type(None)}, dtype)
        if type(None) in kinds:
            values = [np.nan if item is None else item for item in values]
        return Column(dtype, _numbers(np.array(values, dtype=dtype)))
    if dtype in NULLABLE:
        _checked(values, _JSON_TYPES[dtype[0].lower()] | {type(None)}, dtype)
        return Column(dtype, _nullable(pd.Series([restored(item) for item in values], dtype=dtype).array))
    if dtype in TEXTS:
        _checked(values, {str, type(None)}, "texts")
        return Column(dtype, pa.array(values, type=pa.large_string()))
    if dtype == MIXED:
        return Column(dtype, _texts_of(values))
    raise ValueError(f"a column of {visible(repr(dtype), limit=60)}")


def to_json(column: Column) -> list[Any]:
    """The cells of a column as a JSON file holds them; a missing number is None."""
    if column.dtype == MIXED:
        return [json.loads(text) for text in column.array.to_pylist()]
    values = column.array.to_pylist()
    if column.dtype[0] in "fF":
        return [None if item != item else plain(item) for item in values]
    return values


def from_arrow(dtype: str, values: pa.Array) -> Column:
    """A column of a Parquet file.

    Raises:
        ValueError: the values are not of that type.
    """
    if str(values.type) != _arrow_type(dtype) or (values.null_count and dtype in (*NUMBERS, MIXED)):
        raise ValueError(f"{values.type} in a column of {visible(repr(dtype), limit=60)}")
    return Column(dtype, values)


def to_series(column: Column) -> Any:
    """The column of a pandas table, of the type that it was."""
    import pandas as pd

    dtype, values = column
    if dtype in NUMBERS:
        return values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    if dtype in NULLABLE:
        found = pd.array(values.fill_null(False if dtype == "boolean" else 0).to_numpy(False), dtype=dtype)
        found[values.is_null().to_numpy(False)] = pd.NA
        return found
    if dtype == MIXED:
        cells = parse_json(f"[{','.join(values.to_pylist())}]", where="a column of JSON")
        if len(cells) != len(values):
            raise ValueError("cells that are no JSON")
        found = np.empty(len(cells), dtype=object)
        found[:] = [restored(cell) for cell in cells]
        return pd.Series(found, dtype=object, copy=False)
    if dtype == "object" or pd.Series(dtype=dtype).dtype == object:
        return pd.Series(values.to_numpy(zero_copy_only=False), dtype=object, copy=False)
    return pd.array(values, dtype=dtype)  # type: ignore[call-overload]


def digest(column: Column) -> str:
    """The SHA-256 of the values in order; missing ones count, what lies behind them does not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hashed = hashlib.sha256()
    values = column.array
    if pa.types.is_large_string(values.type):
        hashed.update(pc.binary_length(values).fill_null(-1).to_numpy(zero_copy_only=False).data)
        _, offsets, data = values.buffers()
        if len(values) and data is not None:
            start, end = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]]
            hashed.update(memoryview(data)[start:end])
        return hashed.hexdigest()
    if values.null_count:
        hashed.update(np.packbits(values.is_null().to_numpy(zero_copy_only=False)).data)
        values = values.fill_null(False if pa.types.is_boolean(values.type) else 0)
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f" and np.isnan(numbers).any():
        numbers = np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)
    hashed.update(np.ascontiguousarray(numbers).data)
    return hashed.hexdigest()


def _column(series: pd.Series) -> Column:
    dtype = str(series.dtype)
    if dtype in NUMBERS:
        return Column(dtype, _numbers(series.to_numpy()))
    if dtype in NULLABLE:
        return Column(dtype, _nullable(series.array))
    import pyarrow as pa

    if dtype not in TEXTS:
        raise TypeError(f"its type is {dtype}")
    values = series.to_list()
    if dtype != "object" or set(map(type, values)) <= {str, type(None)}:
        return Column(dtype, pa.array(values, type=pa.large_string(), from_pandas=True))
    return Column(MIXED, _texts_of([plain(value) for value in values]))


def _numbers(values: np.ndarray) -> pa.Array:
    import pyarrow as pa

    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    return pa.array(np.ascontiguousarray(wide), from_pandas=False)


def _nullable(values: Any) -> pa.Array:
    import pyarrow as pa

    found = pa.array(values)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _texts_of(cells: Sequence[Any]) -> pa.Array:
    """Every cell as JSON."""
    import pyarrow as pa

    write = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    return pa.array(map(write, cells), type=pa.large_string())


def _arrow_type(dtype: str) -> str:
    return {**NUMBERS, **NULLABLE}.get(dtype) or ("large_string" if dtype in (*TEXTS, MIXED) else "")


def _checked(cells: Sequence[Any], kinds: set[type], dtype: str) -> set[type]:
    """The types of cells, when all are among those of the column."""
    found = set(map(type, cells))
    if not found <= kinds:
        strange = ", ".join(sorted(kind.__name__ for kind in found - kinds))
        raise ValueError(f"{strange} in a column of {dtype}")
    return found
