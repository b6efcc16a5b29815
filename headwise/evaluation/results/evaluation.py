"""What an evaluation leaves: every example's response and score, the numbers, and how to get them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.evaluation.results.io import ROWS, store_or_draw
from headwise.evaluation.results.manifest import EvaluationManifest
from headwise.evaluation.results.numbers import by_metric, check_ids, check_numbers, unsaved
from headwise.evaluation.results.scores import SCORES, check_examples, check_scores
from headwise.evaluation.statistics.estimate import Estimate, caution, number_text, span
from headwise.results.store import load_table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Evaluation:
    """One task, asked of one model."""

    task: str
    estimates: Mapping[str, Estimate]
    """Metric -> number with its 95 % interval; the first is the one the task is known by."""
    frame: pd.DataFrame = field(repr=False)
    """One row per example: id, prompt, answer, response, and the columns that the task scores."""
    manifest: Mapping[str, Any] = field(repr=False)
    """Prompt, decoding parameters, ids, versions and model: what a second run needs for the same numbers."""

    @property
    def value(self) -> float:
        """The number the task is known by."""
        return next(iter(self.estimates.values())).value

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, such as the language that a model heard."""
        return tuple(self.manifest.get("notes", {}).get("warnings", ()))

    @property
    def empty(self) -> tuple[str, ...]:
        """How many replies and references are empty, where any are."""
        counts = self.manifest.get("empty", {})
        return tuple(f"Empty {what}: {count} of {len(self.frame)}" for what, count in counts.items() if count)

    @property
    def summary(self) -> str:
        """The finding, one sentence with numbers."""
        first = next(iter(self.estimates.values()))
        rest = [
            f"{item.metric} {number_text(item.value, '.3f')}" for item in list(self.estimates.values())[1:4]
        ]
        more = f"; {', '.join(rest)}" if rest else ""
        method, doubt = first.method.partition(";")[0], caution(first.method)
        counted = "" if isnan(first.low) else f", {method}, n = {first.n}"
        notes = (self.manifest.get("groups", ""), doubt and f"The interval is {doubt}", *self.empty)
        return (
            f"{self.task}: {first.metric} {number_text(first.value, '.3f')} "
            f"({span(first, '.3f', words=True)}{counted}){more}.{''.join(f' {text}.' for text in notes if text)}"
        )

    def to_frame(self) -> pd.DataFrame:
        """The numbers: one row per metric."""
        import pandas as pd

        return pd.DataFrame(map(asdict, self.estimates.values()))

    def plot(self) -> go.Figure:
        """The metrics with their intervals; one panel per unit."""
        from headwise.evaluation.results.figures import estimates_figure

        return estimates_figure(self.task, list(self.estimates.values()), self.manifest)

    def save(self, path: str | Path) -> Path:
        """Write the evaluation; `.json` and `.parquet` hold everything, `.csv` the per-example table.

        `.html` is a page with the figure and both tables, `.svg` and `.png` the figure.

        Raises:
            InputError: on another suffix, when the folder does not exist, when a number is impossible in its unit, or
                when a picture is asked for without kaleido (`headwise[figures]`) or a browser to draw it.
        """
        with unsaved():
            self.check()
        about = {
            "task": self.task,
            "estimates": [item.to_dict() for item in self.estimates.values()],
            "manifest": dict(self.manifest),
        }
        tables = [("Numbers", self.to_frame()), ("Examples", self.frame)]
        return store_or_draw(path, self, self.frame, about, what="evaluation", tables=tables)

    def check(self) -> None:
        """Refuse numbers that could not have been found.

        Raises:
            ValueError: one is impossible in its unit, or does not go with the examples.
        """
        numbers, manifest = list(self.estimates.values()), self.manifest
        check_numbers(numbers, examples=len(self.frame))
        check_examples(self.frame, manifest, manifest.get("empty", {}))
        check_scores(self.frame, numbers, manifest.get(SCORES, {}))

    def __repr__(self) -> str:
        return f"Evaluation({visible(self.summary)})"

    def _repr_html_(self) -> str:
        from headwise.figures.cell import cell

        return cell(self.summary, tables=[("Numbers", self.to_frame()), ("Examples", self.frame)])


def load_evaluation(path: str | Path) -> Evaluation:
    """Read what `Evaluation.save` wrote as `.json` or `.parquet`.

    Raises:
        InputError: the file is missing, is damaged or changed, or is no evaluation.
    """

    def build(about: Mapping[str, Any], frame: pd.DataFrame) -> Evaluation:
        estimates = by_metric(Estimate, about["estimates"])
        if not estimates:
            raise ValueError("it holds no estimates")
        check_ids(frame, ("id",))
        EvaluationManifest.check(about["manifest"])
        found = Evaluation(frame=frame, **{**about, "estimates": estimates})
        found.check()
        return found

    fields = {"task": str, "estimates": list, "manifest": dict}
    return load_table(path, build, what="evaluation", rows=ROWS, fields=fields)
