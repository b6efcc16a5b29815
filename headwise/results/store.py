"""Tables with what is known about them, as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headwise.errors import InputError
from headwise.files import check_path, check_suffix, replacing

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".json", ".parquet", ".csv")
Found = TypeVar("Found")


def save_table(
    path: str | Path, frame: pd.DataFrame, about: Mapping[str, Any], *, what: str, rows: str
) -> Path:
    """Write a table; `.json` and `.parquet` hold everything, `.csv` the rows alone.

    Args:
        path: the suffix chooses the format.
        frame: the rows.
        about: what is known about them, JSON-able.
        what: what it is, for messages.
        rows: the key under which the rows stand in a JSON file.

    Raises:
        InputError: on another suffix, or when the folder does not exist.
    """
    path = Path(path)
    check_suffix(path, SUFFIXES, what=f"{'an' if what[0] in 'aeiou' else 'a'} {what}")
    with replacing(path) as part:
        match path.suffix:
            case ".json":
                whole = {**about, "columns": list(frame), rows: json_rows(frame)}
                part.write_text(json.dumps(whole, indent=1, ensure_ascii=False), encoding="utf-8")
            case ".parquet":
                whole = frame.copy()
                whole.attrs.update(about)
                whole.to_parquet(part, index=False, write_page_checksum=True)
            case ".csv":
                frame.to_csv(part, index=False)
    return path


def json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, JSON-able; None where a number is missing."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def load_table(
    path: str | Path, build: Callable[[Mapping[str, Any], pd.DataFrame], Found], *, what: str, rows: str
) -> Found:
    """Read what `save_table` wrote as `.json` or `.parquet`, and make of it what it was.

    Args:
        path: the file.
        build: from what is known about the table, and the table.
        what: what it should be, for messages.
        rows: the key under which the rows stand in a JSON file.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    import pandas as pd
    from pyarrow import ArrowException

    check_path(path, f"the {what}")
    path = Path(path)
    if not path.is_file():
        raise InputError("There is no such file.", evidence=str(path), remedy="Check the path.")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path, page_checksum_verification=True)
            about: Any = frame.attrs
        else:
            about = json.loads(path.read_text(encoding="utf-8"))
            frame = pd.DataFrame(about[rows], columns=about.get("columns") if not about[rows] else None)
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
