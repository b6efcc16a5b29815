"""What every analysis returns: one tidy table, one sentence, and what is needed to read both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.files import check_suffix, replacing

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_SUFFIXES = (".json", ".parquet", ".csv", ".html")
_PREVIEW = 12


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
        """Layer × head maps (rates: layer × position), one per stack and kind on one scale; or bars."""
        from headwise.analyses.figures import figure_of

        return figure_of(self)

    def save(self, path: str | Path) -> Path:
        """Write the result; the suffix chooses the format.

        `.json` and `.html` hold everything, `.parquet` the table with the rest in its metadata, `.csv` the
        table.

        Raises:
            InputError: on another suffix, or when the folder does not exist.
        """
        path = Path(path)
        check_suffix(path, _SUFFIXES, what="a result")
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
                case ".html":
                    part.write_text(self._page(), encoding="utf-8")
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

    def _repr_html_(self) -> str:
        best = self.frame.nlargest(_PREVIEW, self.value)
        rest = len(self.frame) - len(best)
        more = f"<p>and {rest} more rows in <code>.frame</code></p>" if rest else ""
        about = f"<p><small>{escape(self.description)}</small></p>"
        return f"<p>{escape(self.summary)}</p>{_table(best)}{more}{about}"

    def _page(self) -> str:
        provenance = "".join(
            f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self.provenance.items()
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(self.name)}</title></head><body><h1>{escape(self.name)}</h1><p>{escape(self.summary)}</p><p>{escape(self.description)}</p>"
            f"{_table(self.frame)}<h2>Provenance</h2><table>{provenance}</table></body></html>\n"
        )


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


def _table(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, escape=True, na_rep="", float_format="{:.4g}".format, border=0)
