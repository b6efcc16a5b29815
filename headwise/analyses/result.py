"""What every analysis returns: one tidy table, one sentence, and what is needed to read both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.display import DRAWERS
from headwise.errors import InputError
from headwise.figures.labels import said
from headwise.figures.saving import FIGURE_SUFFIXES, save_figure
from headwise.files import check_suffix, replacing

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_SUFFIXES = (".json", ".parquet", ".csv", *FIGURE_SUFFIXES)


@dataclass(frozen=True)
class Result:
    """One analysis of one trace."""

    name: str
    """Name of the analysis."""
    frame: pd.DataFrame
    """Tidy table: one row per head, or per position."""
    unit: str
    """Unit of `value`."""
    description: str
    """How to read the number: what it is, its range, what high means."""
    provenance: Mapping[str, Any] = field(repr=False)
    """Model, versions, seed and call of the capture, and the parameters of the analysis."""
    summary: str
    """The finding, one sentence with numbers."""
    value: str
    """The column that carries the finding, and is drawn."""

    def __post_init__(self) -> None:
        if self.frame.empty:
            raise ValueError(f"{self.name}: a result without rows")

    def mean(self) -> pd.DataFrame:
        """The numbers of every head averaged over examples.

        Raises:
            InputError: when the rows are positions, which differ from example to example.
        """
        if "head" not in self.frame:
            raise InputError(f"The rows of {self.name} are positions, not heads.", remedy="Use .frame.")
        values = list(self.frame.select_dtypes("float"))
        keys = [name for name in self.frame if name not in ("example", *values)]
        return self.frame.groupby(keys, sort=False)[values].mean().reset_index()

    def plot(self) -> go.Figure:
        """Layer × head maps (rates: layer × position), one per stack and kind on one printed scale; or bars.

        The figure has the size of one or two columns of a paper; no figure is stretched to its own values.
        """
        from headwise.analyses.figures import figure_of

        return figure_of(self)

    def save(self, path: str | Path) -> Path:
        """Write the result; the suffix chooses the format.

        `.json` and `.html` hold everything, the latter with the figure above the table; `.parquet` holds the
        table with the rest in its metadata, `.csv` the table, `.svg` and `.png` the figure.

        Raises:
            InputError: on another suffix, when the folder does not exist, or when a picture is asked for without
                kaleido (`headwise[figures]`) or a browser to draw it.
        """
        path = Path(path)
        check_suffix(path, _SUFFIXES, what="a result")
        if path.suffix in FIGURE_SUFFIXES:
            return save_figure(
                path,
                self.plot(),
                title=self.name,
                summary=self.summary,
                tables=[("Table", self.frame)],
                provenance=self.provenance,
                description=self.description,
                static=self._pictures() if path.suffix == ".html" else "",
            )
        with replacing(path) as part:
            match path.suffix:
                case ".json":
                    rows = json.loads(self.frame.to_json(orient="records", double_precision=15))
                    part.write_text(json.dumps({**self._about(), "rows": rows}, indent=1), encoding="utf-8")
                case ".parquet":
                    frame = self.frame.copy()
                    frame.attrs.update(self._about())
                    frame.to_parquet(part, index=False)
                case ".csv":
                    self.frame.to_csv(part, index=False)
        return path

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "summary": self.summary,
            "description": self.description,
            "unit": self.unit,
            "value": self.value,
            "provenance": dict(self.provenance),
        }

    def __repr__(self) -> str:
        return f"Result({self.name}: {self.summary})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Text and static HTML, and in a live notebook with anywidget the viewer, which hosts prefer if they can."""
        return {"text/plain": repr(self), "text/html": self._repr_html_(), **DRAWERS["result"](self)}

    def _repr_html_(self) -> str:
        from headwise.figures.cell import cell

        ranked = self.frame.sort_values(self.value, ascending=False, kind="stable")
        return cell(
            self.summary,
            tables=[(f"Largest {said(self.value)}", ranked)],
            pictures=self._pictures(),
            description=self.description,
        )

    def _pictures(self) -> str:
        """The maps as small static pictures; nothing for a result that has none."""
        from headwise.analyses.figures import panels_of, scale_of
        from headwise.figures.cell import maps

        if "layer" not in self.frame or "arm" in self.frame:
            return ""
        return maps(panels_of(self), *scale_of(self), value=self.value, unit=self.unit)


def provenance_of(meta: Mapping[str, Any], analysis: str, **parameters: Any) -> dict[str, Any]:
    """What a result says about where it came from."""
    return {**meta, "analysis": analysis, "parameters": parameters}


def percent(share: float) -> str:
    """A share as whole percent."""
    return f"{100 * share:.0f} %"


def one_sentence(clauses: Mapping[str, str]) -> str:
    """A single clause as a sentence; clauses of several stacks, each behind its name."""
    if len(clauses) == 1:
        (clause,) = clauses.values()
        return f"{clause[0].upper()}{clause[1:]}."
    return "; ".join(f"{name}: {clause}" for name, clause in clauses.items()) + "."
