"""What a comparison leaves: every arm's responses and scores, what differs from no fix, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.results.arm import Arm, costs, effect_note, gains
from headwise.evaluation.results.consistency import check_arms, check_rows
from headwise.evaluation.results.finding import finding
from headwise.evaluation.results.io import ROWS, store_or_draw
from headwise.evaluation.results.manifest import ComparisonManifest
from headwise.evaluation.results.numbers import check_fields, check_ids, unsaved
from headwise.results.store import load_table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from headwise.results.result import Result


@dataclass(frozen=True)
class Comparison:
    """One task, asked of one model without and with fixes, over the same examples."""

    task: str
    arms: tuple[Arm, ...]
    """The first is the model without a fix."""
    frame: pd.DataFrame = field(repr=False)
    """One row per arm and example: arm, id, prompt, answer, response, tokens, and the columns that the task scores.
    None in the judgement of a search that was read from a file."""
    manifest: Mapping[str, Any] = field(repr=False)
    """Prompt, decoding, ids, versions, model, fixes and what they were fitted on: the same call gives the same
    numbers, but for the time it takes."""

    def __getitem__(self, label: str) -> Arm:
        """The arm with a label."""
        return {arm.label: arm for arm in self.arms}[label]

    @property
    def n(self) -> int:
        """Examples per arm."""
        return len(self.frame) // len(self.arms) or len(self.manifest.get("ids", ()))

    @property
    def best(self) -> Arm | None:
        """The arm with the largest gain in the first metric among those that clearly gain; None if none does.

        An arm that lost what the task guards is none of them, see `costs`.
        """
        clear = [arm for arm in self.arms[1:] if gains(arm) and not self.costs(arm)]
        return max(clear, key=lambda arm: arm.main.gain, default=None)

    def costs(self, arm: Arm, metric: str = "") -> list[str]:
        """What forbids to call a gain of an arm one, such as "recall -0.872"; empty under `guard=False`.

        Args:
            arm: any but the first.
            metric: what it gains in; the first metric when left out.
        """
        return costs(arm, self.manifest, metric)

    @property
    def summary(self) -> str:
        """The finding, one sentence with numbers, and what it must not be read without."""
        return finding(self.task, self.arms, self.manifest, n=self.n)

    def to_frame(self) -> pd.DataFrame:
        """The table: one row per arm and metric, with what concerns the whole arm repeated."""
        import pandas as pd

        rows = []
        for arm in self.arms:
            whole = {
                "changed": arm.changed,
                "repaired": arm.repaired,
                "broken": arm.broken,
                "time_ratio": arm.cost.wall,
                "cpu_ratio": arm.cost.cpu,
                "leaks_future": arm.leaks_future,
            }
            for name, number in arm.estimates.items():
                change = arm.differences.get(name)
                row = {"arm": arm.label, **asdict(number)}
                for column in ("value", "low", "high", "p", "p_holm"):
                    key = column if column.startswith("p") else f"difference_{column}".replace("_value", "")
                    row[key] = getattr(change, column) if change else float("nan")
                row["pairs"] = change.n if change else None
                rows.append({**row, **whole})
        return pd.DataFrame(rows)

    def to_result(self) -> Result:
        """The table as a `Result`, like that of an analysis: to draw, to save (JSON, Parquet, CSV, HTML), to report."""
        from headwise.results.result import Result

        return Result(
            name=f"compare {self.task}",
            kind="difference",
            keys=("metric", "arm"),
            frame=self.to_frame(),
            unit="of each metric",
            description="Metric of an arm less that of the model without a fix, over the same examples; 0 is no "
            "difference. Beside it the 95 % interval and p, adjusted by Holm's rule."
            f" {effect_note(self.arms[1])}".rstrip(),
            provenance=dict(self.manifest),
            summary=self.summary,
            value="difference",
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the per-example table, JSON-able."""
        return {
            "task": self.task,
            "arms": [arm.to_dict() for arm in self.arms],
            "manifest": dict(self.manifest),
        }

    def plot(self, *metrics: str) -> go.Figure:
        """Differences to the model without a fix, with 95 % intervals: one panel per metric, all unless named."""
        from headwise.evaluation.results.figures import comparison_figure

        arms = {arm.label: arm.differences for arm in self.arms[1:]}
        return comparison_figure(self.task, arms, self.manifest, n=self.n, metrics=metrics)

    def save(self, path: str | Path) -> Path:
        """Write the comparison; `.json` and `.parquet` hold everything, `.csv` the per-example table.

        `.html` is a page with the figure and both tables, `.svg` and `.png` the figure.

        Raises:
            InputError: on another suffix, when the folder does not exist, when a number is impossible in its unit, when
                its examples are not at hand, or when a picture is asked for without kaleido (`headwise[figures]`) or a
                browser to draw it.
        """
        self.require_possible()
        if self.frame.empty:
            raise InputError(
                "This comparison has no examples, which its file would hold.",
                evidence=f"{self.task}, read from the file of a search",
                remedy="Save the comparison of the search that was run, search.comparison, or search again.",
            )
        tables = [("Numbers", self.to_frame()), ("Examples", self.frame)]
        return store_or_draw(path, self, self.frame, self.to_dict(), what="comparison", tables=tables)

    def require_possible(self) -> None:
        """Refuse numbers that no file may hold.

        Raises:
            InputError: a number is impossible in its unit, or does not go with the others.
        """
        with unsaved():
            self.check()

    def check(self) -> None:
        """Refuse numbers that could not have been found.

        Raises:
            ValueError: one is impossible in its unit, or does not go with the others, or with the examples.
        """
        check_arms(self.arms, self.manifest, examples=self.n)
        if not self.frame.empty:
            check_rows(self.arms, self.frame, self.manifest)

    def __repr__(self) -> str:
        return f"Comparison({visible(self.summary)})"

    def _repr_html_(self) -> str:
        from headwise.figures.cell import ROWS, cell

        places = {metric: place for place, metric in enumerate(self.arms[0].estimates)}
        numbers = self.to_frame().sort_values("metric", key=lambda names: names.map(places), kind="stable")
        rows = self.frame.groupby("arm", sort=False).head(max(1, ROWS // len(self.arms)))
        return cell(self.summary, tables=[("Numbers", numbers), ("Examples", rows)])


def load_comparison(path: str | Path) -> Comparison:
    """Read what `Comparison.save` wrote as `.json` or `.parquet`.

    Raises:
        InputError: the file is missing, is damaged, or is no comparison.
    """

    def build(about: Mapping[str, Any], frame: pd.DataFrame) -> Comparison:
        check_ids(frame, ("arm", "id"))
        return judgement(about, list(frame["arm"].drop_duplicates()), frame)

    known = {"task": str, "arms": list, "manifest": dict}
    return load_table(path, build, what="comparison", rows=ROWS, fields=known)


def judgement(about: Mapping[str, Any], labels: Sequence[str], frame: pd.DataFrame) -> Comparison:
    """A comparison from what `Comparison.to_dict` gave, the labels of its arms, and its examples or none.

    Raises:
        ValueError: a number that could not have been found, or parts that do not belong together.
    """
    arms = tuple(map(Arm.from_dict, about["arms"]))
    for item in (*arms, *(arm.cost for arm in arms)):
        check_fields(item)
    if len(arms) < 2 or [arm.label for arm in arms] != labels or len(frame) % len(arms):
        raise ValueError("rows and arms do not belong together")
    ComparisonManifest.check(about["manifest"])
    found = Comparison(frame=frame, **{**about, "arms": arms})
    found.check()
    return found
