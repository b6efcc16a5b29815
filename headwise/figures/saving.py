"""Figures as files: the suffix chooses between a page and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.files import replacing, suffix_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FIGURE_SUFFIXES = (".html", ".svg", ".png")
"""Formats of a figure."""


def save_figure(
    path: str | Path,
    figure: go.Figure,
    *,
    title: str,
    summary: str,
    tables: Sequence[tuple[str, pd.DataFrame]],
    provenance: Mapping[str, Any],
    description: str = "",
    static: str = "",
) -> Path:
    """Write a figure; `.html` is a page with everything that is given, `.svg` and `.png` the picture alone.

    Raises:
        InputError: the folder does not exist, or kaleido or a browser is missing for a picture.
    """
    from headwise.figures.images import image
    from headwise.figures.page import figure_page

    path = Path(path)
    with replacing(path) as part:
        if suffix_of(path) == ".html":
            page = figure_page(
                figure,
                title=title,
                summary=summary,
                tables=tables,
                provenance=provenance,
                description=description,
                static=static,
            )
            part.write_text(page, encoding="utf-8")
        else:
            part.write_bytes(image(figure, suffix_of(path)[1:]))
    return path
