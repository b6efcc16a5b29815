"""Per-example tables with what is known about them, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headwise.figures.saving import FIGURE_SUFFIXES, save_figure
from headwise.files import check_suffix, suffix_of
from headwise.results.store import SUFFIXES, save_table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

DRAWN_SUFFIXES = (*SUFFIXES, *FIGURE_SUFFIXES)
"""Those of what has a figure, too."""
ROWS = "examples"
"""The key under which the rows of a per-example table stand in a JSON file."""


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
    if suffix_of(path) not in FIGURE_SUFFIXES:
        return save_table(path, frame, about, what=what, rows=rows)
    return save_figure(
        path,
        found.plot(),
        title=found.task,
        summary=found.summary,
        tables=tables,
        provenance=found.manifest,
    )
