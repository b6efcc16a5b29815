"""Results: one tidy table, one sentence, and what is needed to read both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.display import cell_of
from headwise.figures.chart import Chart
from headwise.figures.labels import said
from headwise.figures.saving import FIGURE_SUFFIXES, save_figure
from headwise.files import check_suffix, suffix_of
from headwise.results.store import SUFFIXES, json_rows, load_table, save_table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_FIELDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "kind", "value", "unit", "summary", "description"), str),
    **dict.fromkeys(("keys", "axes"), list),
    "provenance": dict,
}
"""What a file says about its table."""


@dataclass(frozen=True, kw_only=True)
class Result(Chart):
    """What one analysis found.

    `kind` says what a row is (`headwise.figures.chart.KINDS`), `keys` which columns name it; all others say something
    about it, `value` the finding. Rows of examples carry the number `example`, and `id` where the capture was given
    ids, so that a result joins with the per-example table of an evaluation in one
    `result.frame.merge(evaluation.frame, on="id")`.

    Raises:
        InputError: the table is not of its kind: a missing column, two rows with one name, words for numbers.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "peak": [0.25, 1.0]})
        >>> result = Result(
        ...     name="peak", kind="heads", keys=("layer", "head"), value="peak", unit="share", frame=frame,
        ...     description="Largest weight of a row.", summary="L0H1 looks at one key.", provenance={},
        ... )
        >>> result
        Result(peak: L0H1 looks at one key.)
    """

    description: str
    """How to read the number: what it is, its range, what high means."""
    summary: str
    """The finding, one sentence with numbers."""
    provenance: Mapping[str, Any] = field(repr=False)
    """Model, versions, seed and call of the capture, and the parameters of the analysis."""

    def plot(self) -> go.Figure:
        """The figure of its kind: maps on one printed scale, lines, bars, a graph, or intervals.

        The figure has the size of one or two columns of a paper; no figure is stretched to its own values.
        """
        from headwise.figures.drawers import draw

        return draw(self)

    def save(self, path: str | Path) -> Path:
        """Write the result; the suffix chooses the format.

        `.json`, `.parquet` and `.html` hold everything (the latter with the figure above the table; the other two are
        read by `load_result`, and their checksum shows whether they were changed since), `.csv` holds the table alone
        and has no place for a checksum, `.svg` and `.png` the figure. A page is about 5 MB large, since it carries
        plotly and opens without a connection; the others are small.

        Raises:
            InputError: on another suffix, when the folder does not exist, or when a picture is asked for without
                kaleido (`headwise[figures]`) or a browser to draw it.
        """
        path = Path(path)
        check_suffix(path, (*SUFFIXES, *FIGURE_SUFFIXES), what="a result")
        if suffix_of(path) not in FIGURE_SUFFIXES:
            return save_table(path, self.frame, self._about(), what="result", rows="rows")
        return save_figure(
            path,
            self.plot(),
            title=self.name,
            summary=self.summary,
            tables=[("Table", self.frame)],
            provenance=self.provenance,
            description=self.description,
            static=self._pictures() if suffix_of(path) == ".html" else "",
        )

    def largest(self, count: int) -> pd.DataFrame:
        """The rows with the largest values; the first ones where the value is a word."""
        if self.numeric:
            return self.frame.sort_values(self.value, ascending=False, kind="stable").head(count)
        return self.frame.head(count)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {**self._about(), "rows": json_rows(self.frame)}

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "keys": list(self.keys),
            "axes": list(self.axes),
            "value": self.value,
            "unit": self.unit,
            "summary": self.summary,
            "description": self.description,
            "provenance": dict(self.provenance),
        }

    def __repr__(self) -> str:
        return f"Result({visible(self.name)}: {visible(self.summary)})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Text and static HTML, and in a live notebook with anywidget the viewer, which hosts prefer if they can."""
        return {"text/plain": repr(self), "text/html": self._repr_html_(), **cell_of("result", self)}

    def _repr_html_(self) -> str:
        from headwise.figures.cell import cell

        caption = f"Largest {said(self.value)}" if self.numeric else said(self.value).capitalize()
        return cell(
            self.summary,
            tables=[(caption if len(self.frame) else "No rows", self.largest(len(self.frame)))],
            pictures=self._pictures(),
            description=self.description,
        )

    def _pictures(self) -> str:
        """What it looks like where no script runs."""
        from headwise.figures.drawers import static

        return static(self) if self.kind != "difference" else ""


def load_result(path: str | Path) -> Result:
    """Read a result that `Result.save` wrote as `.json` or `.parquet`.

    Raises:
        InputError: the file is missing, damaged, changed, something else, or of another version.
    """
    return load_table(path, _result, what="result", rows="rows", fields=_FIELDS)


def _result(about: Mapping[str, Any], frame: pd.DataFrame) -> Result:
    for name in ("keys", "axes"):
        if not all(isinstance(key, str) for key in about[name]):
            raise ValueError(f"{name} are {about[name]!r}")
    return Result(frame=frame, **{**about, "keys": tuple(about["keys"]), "axes": tuple(about["axes"])})


def provenance_of(meta: Mapping[str, Any], analysis: str, **parameters: Any) -> dict[str, Any]:
    """What a result says about where it came from."""
    return {**meta, "analysis": analysis, "parameters": parameters}
