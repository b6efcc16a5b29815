"""Answers of the commands: lines, JSON, and the doctor's table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from headwise.text import shortened, visible

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.doctor import DoctorReport

PLAIN_WIDTH = 160
"""Characters per line where there is no terminal to ask."""


def warning_lines(answer: Mapping[str, Any]) -> list[str]:
    """The warnings of an answer, a line each."""
    return [f"warning: {shortened(warning)}" for warning in answer["warnings"]]


def print_answer(answer: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    """Print the answer as JSON, or the lines."""
    typer.echo(json.dumps(answer, indent=1, allow_nan=False) if as_json else "\n".join(map(visible, lines)))


def print_frame(frame: pd.DataFrame) -> None:
    """A table of a few rows, four digits per number."""
    from headwise.figures.tables import cell_text

    rows = [[visible(str(name)) for name in frame]]
    rows += [
        [cell_text(value, limit=24) for value in row] for row in frame.itertuples(index=False, name=None)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [kind.kind in "iuf" for kind in frame.dtypes]
    for row in rows:
        cells = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, numeric, strict=True)
        )
        typer.echo("  " + "  ".join(cells).rstrip())


def print_doctor(report: DoctorReport) -> None:
    """One row per site, then what holds for the whole model, then the problems."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH)
    table = Table("tower", "kind", "layer", "call", box=None)
    table.add_column("module", overflow="fold")
    for heading in ("seen through", "patterns", "streaming"):
        table.add_column(heading, no_wrap=True)
    for row in report.to_dict()["sites"]:
        place = [visible(str(row[name])) for name in ("tower", "kind", "layer", "call", "module", "route")]
        table.add_row(*place, *(_difference(row[f"{what}_difference"]) for what in ("pattern", "streaming")))
    console.print(table)
    console.print(f"largest difference that counts as agreement: {_difference(report.tolerance)}")
    console.print(f"logits, headwise against eager: {_difference(report.logits_difference)} of the largest")
    console.print(f"logits, change when every head is edited: {_difference(report.edit_effect)}")
    for trial in report.to_dict()["trials"]:
        found = (
            _difference(trial["difference"])
            if trial["passed"]
            else "not tried"
            if not trial["problem"]
            else "wrong"
        )
        note = f" ({visible(trial['note'])})" if trial["note"] else ""
        console.print(f"tried out: {trial['trial']}: {found}{note}")
    if report.unreached:
        console.print(f"not reached: {visible(', '.join(report.unreached))}")
    for problem in report.problems:
        console.print(f"problem: {visible(problem)}")
    console.print("headwise and this model agree" if report.ok else "headwise and this model do not agree")


def _difference(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
