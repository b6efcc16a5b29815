"""The doctor's findings as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from headwise.reports.text import visible

if TYPE_CHECKING:
    from headwise.probes.doctor import DoctorReport


def print_doctor(report: DoctorReport) -> None:
    """One row per site, then what holds for the whole model, then the problems."""
    console = Console(highlight=False, markup=False)
    table = Table("stack", "kind", "layer", "call", "module", "patterns", "streaming", "reached", box=None)
    for row in report.frame.itertuples():
        differences = (_difference(row.pattern_difference), _difference(row.streaming_difference))
        place = (row.stack, row.kind, str(row.layer), str(row.call), visible(str(row.module)))
        table.add_row(*place, *differences, "yes" if row.reached else "no")
    console.print(table)
    console.print(
        f"largest difference of logits, headwise against eager: {_difference(report.logits_difference)}"
    )
    console.print(f"largest change of logits when a head is edited: {_difference(report.edit_effect)}")
    for name, modules in (("not reached", report.unreached), ("seen through softmax", report.fallback)):
        if modules:
            console.print(f"{name}: {visible(', '.join(modules))}")
    for problem in report.problems:
        console.print(f"problem: {visible(problem)}")
    console.print("everything agrees" if report.ok else "status 1: headwise and this model do not agree")


def _difference(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.1e}"
