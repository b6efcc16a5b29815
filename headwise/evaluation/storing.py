"""Per-example tables with what is known about them, as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headwise.errors import InputError
from headwise.files import check_suffix, replacing

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".json", ".parquet", ".csv")
ROWS = "examples"
"""The key under which the rows of a per-example table stand in a JSON file."""
_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "bool | None": (bool, type(None)),
    "int | None": (int, type(None)),
}
"""Annotation of a field -> what may stand there."""
_WHOLE = 2**63
"""No count is larger."""
Found = TypeVar("Found")


def store(
    path: str | Path, frame: pd.DataFrame, about: Mapping[str, Any], *, what: str, rows: str = ROWS
) -> Path:
    """Write a table; `.json` and `.parquet` hold everything, `.csv` the rows alone.

    Raises:
        InputError: on another suffix, or when the folder does not exist.
    """
    path = Path(path)
    check_suffix(path, SUFFIXES, what=f"{'an' if what[0] in 'aeiou' else 'a'} {what}")
    with replacing(path) as part:
        match path.suffix:
            case ".json":
                table = json.loads(frame.to_json(orient="records", double_precision=15))
                text = json.dumps({**about, rows: table}, indent=1, ensure_ascii=False)
                part.write_text(text, encoding="utf-8")
            case ".parquet":
                whole = frame.copy()
                whole.attrs.update(about)
                whole.to_parquet(part, index=False, write_page_checksum=True)
            case ".csv":
                frame.to_csv(part, index=False)
    return path


def stored(
    path: str | Path, build: Callable[[Mapping[str, Any], pd.DataFrame], Found], *, what: str
) -> Found:
    """Read what `store` wrote as `.json` or `.parquet`, and make of it what it was.

    Args:
        path: the file.
        build: from what is known about the table, and the table.
        what: what it should be, for messages.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    import pandas as pd
    from pyarrow import ArrowException

    path = Path(path)
    if not path.is_file():
        raise InputError("There is no such file.", evidence=str(path), remedy="Check the path.")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path, page_checksum_verification=True)
            about: Any = frame.attrs
        else:
            about = json.loads(path.read_text(encoding="utf-8"))
            frame = pd.DataFrame(about[ROWS])
        return build(about, frame)
    except (
        ArrowException,
        AttributeError,
        KeyError,
        OSError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(
            f"This file is no {what}.",
            evidence=f"{path}: {' '.join(str(error).split())[:200]}",
            remedy=f"Give a .json or .parquet file written by {what.capitalize()}.save.",
        ) from error


def check_fields(item: Any) -> None:
    """Refuse a dataclass whose plain fields hold values of other kinds, as what was read from a file may.

    Raises:
        ValueError: the first such field, with what it holds.

    Example:
        >>> from headwise.evaluation.comparison import Cost
        >>> check_fields(Cost(1.0, 1.0, "many", 1.0, 1.0))
        Traceback (most recent call last):
        ...
        ValueError: tokens is 'many'
    """
    for field in fields(item):
        kinds = _KINDS.get(str(field.type), (object,))
        value = getattr(item, field.name)
        known = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds or object in kinds)
        if not known or (isinstance(value, int) and abs(value) > _WHOLE):
            raise ValueError(f"{field.name} is {repr(value)[:60]}")
