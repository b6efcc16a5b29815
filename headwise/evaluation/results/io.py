"""Per-example tables with what is known about them, as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from headwise.errors import InputError
from headwise.figures.saving import FIGURE_SUFFIXES, save_figure
from headwise.files import check_path, check_suffix, replacing

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SUFFIXES = (".json", ".parquet", ".csv")
DRAWN_SUFFIXES = (*SUFFIXES, *FIGURE_SUFFIXES)
"""Those of what has a figure, too."""
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
    check_suffix(path, SUFFIXES, what=_with_article(what))
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


class Drawable(Protocol):
    """What has a task, a finding, a manifest and a figure."""

    @property
    def task(self) -> str:
        """What it is about."""
        ...

    @property
    def summary(self) -> str:
        """The finding."""
        ...

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Where it comes from."""
        ...

    def plot(self) -> go.Figure:
        """The figure."""
        ...


def store_or_draw(
    path: str | Path,
    found: Drawable,
    frame: pd.DataFrame,
    about: Mapping[str, Any],
    *,
    what: str,
    tables: Sequence[tuple[str, pd.DataFrame]],
    rows: str = ROWS,
) -> Path:
    """`store`, or as a figure: `.html` is a page with figure and tables, `.svg` and `.png` the figure.

    Raises:
        InputError: on another suffix, when the folder does not exist, or when a picture is asked for without kaleido
            (`headwise[figures]`) or a browser to draw it.
    """
    path = Path(path)
    check_suffix(path, DRAWN_SUFFIXES, what=_with_article(what))
    if path.suffix not in FIGURE_SUFFIXES:
        return store(path, frame, about, what=what, rows=rows)
    return save_figure(
        path,
        found.plot(),
        title=found.task,
        summary=found.summary,
        tables=tables,
        provenance=found.manifest,
    )


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
        >>> from headwise.evaluation.results.comparison import Cost
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


def _with_article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
