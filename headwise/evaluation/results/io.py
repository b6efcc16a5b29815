"""Per-example tables with what is known about them, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headwise.figures.saving import FIGURE_SUFFIXES, save_figure
from headwise.files import check_suffix
from headwise.results.store import SUFFIXES, save_table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

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
    """`save_table`, or as a figure: `.html` is a page with figure and tables, `.svg` and `.png` the figure.

    Raises:
        InputError: on another suffix, when the folder does not exist, or when a picture is asked for without kaleido
            (`headwise[figures]`) or a browser to draw it.
    """
    path = Path(path)
    check_suffix(path, DRAWN_SUFFIXES, what=f"{'an' if what[0] in 'aeiou' else 'a'} {what}")
    if path.suffix not in FIGURE_SUFFIXES:
        return save_table(path, frame, about, what=what, rows=rows)
    return save_figure(
        path,
        found.plot(),
        title=found.task,
        summary=found.summary,
        tables=tables,
        provenance=found.manifest,
    )


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
