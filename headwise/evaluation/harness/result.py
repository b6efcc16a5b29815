"""What lm-evaluation-harness found, with and without fixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.evaluation.harness.table import MetricRow, difference_rows, example_rows, metric_rows
from headwise.evaluation.results.arm import NONE, pairs_note
from headwise.evaluation.results.io import ROWS
from headwise.evaluation.results.manifest import HarnessManifest
from headwise.evaluation.results.numbers import check_fields, check_ids, check_number
from headwise.evaluation.statistics.estimate import NO_INTERVAL, Estimate, from_fields
from headwise.evaluation.statistics.paired import Difference
from headwise.results.store import json_rows, load_table, save_table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_KEYS = ["arm", "task", "metric", "filter"]
_NEAR = 1e-4
"""Rounding of a difference, as far as it is compared with those of two numbers of the harness."""


@dataclass(frozen=True)
class HarnessResult:
    """Tasks of lm-evaluation-harness, asked of one model in one or more arms: without a fix, and with each."""

    metrics: pd.DataFrame = field(repr=False)
    """One row per arm, task and metric: the harness's value and standard error, `n`, the task's version."""
    differences: pd.DataFrame = field(repr=False)
    """One row per fix, task and metric: fix less none over the same examples, with a 95 % interval, `p`, and
    `p_holm` over all of them. Empty without fixes."""
    frame: pd.DataFrame = field(repr=False)
    """One row per arm and example: prompt, answer, response, log-probabilities (nats), and the scores."""
    manifest: Mapping[str, Any] = field(repr=False)
    """Tasks with their configs, fixes, model, seeds, versions, and what the harness warned of."""

    @property
    def summary(self) -> str:
        """The finding, one sentence with numbers."""
        first = self.metrics.iloc[0]
        rows = self.metrics[
            (self.metrics[["task", "metric", "filter"]] == first[["task", "metric", "filter"]]).all(axis=1)
        ]
        arms = ", ".join(f"{arm} {value:.3f}" for arm, value in zip(rows["arm"], rows["value"], strict=True))
        arms = arms.removeprefix(f"{NONE} ") if len(rows) == 1 else arms
        return f"{first['task']}: {first['metric']} {arms} (n = {first['n']})."

    def to_frame(self) -> pd.DataFrame:
        """The numbers: one row per arm, task and metric."""
        return self.metrics.copy()

    def plot(self) -> go.Figure:
        """Every metric of every arm as a dot, with 1.96 standard errors to both sides."""
        from plotly.graph_objects import Figure, Scatter

        from headwise.figures.labels import label

        figure = Figure()
        for arm, rows in self.metrics.groupby("arm", sort=False):
            figure.add_trace(
                Scatter(
                    x=rows["value"],
                    y=[list(map(label, rows["task"])), [label(_name(row)) for _, row in rows.iterrows()]],
                    error_x={"type": "data", "array": 1.96 * rows["stderr"].fillna(0.0)},
                    mode="markers",
                    name=label(arm),
                )
            )
        figure.update_yaxes(autorange="reversed")
        return figure.update_layout(
            title="lm-evaluation-harness, ± 1.96 standard errors",
            template="plotly_white",
            scattermode="group",
        )

    def save(self, path: str | Path) -> Path:
        """Write it; `.json` and `.parquet` hold everything, `.csv` the per-example table.

        `hw.load_harness` reads the first two, and refuses what was changed.

        Raises:
            InputError: on another suffix, or when the folder does not exist.
        """
        return save_table(path, self.frame, self.to_dict(), what="harness result", rows=ROWS)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the per-example table, JSON-able."""
        return {
            "metrics": json_rows(self.metrics),
            "differences": json_rows(self.differences),
            "manifest": dict(self.manifest),
        }

    def lines(self) -> list[str]:
        """The numbers as text: what they are, then every metric of every arm, and what the fix changes."""
        changes = {tuple(row[_KEYS]): row for _, row in self.differences.iterrows()}
        wide = self.metrics["arm"].str.len().max()
        more = "; difference to none [95 % interval], p by Holm's rule over all" if changes else ""
        version = self.manifest["versions"]["lm_eval"]
        lines = [
            f"lm-evaluation-harness {version}, seed {self.manifest['seed']}: value ± standard error{more}"
        ]
        for _, row in self.metrics.iterrows():
            line = f"{row['task']:<20} {_name(row):<18} n = {row['n']:<6} {row['arm']:<{wide}} {row['value']:>9.4f}"
            line += "" if isnan(row["stderr"]) else f" ± {row['stderr']:.4f}"
            if tuple(row[_KEYS]) in changes:
                found = changes[tuple(row[_KEYS])]
                change = Difference(**{item.name: found[item.name] for item in fields(Difference)})
                why = f" (they disagree, for {change.disagreement}: take p)" if change.disagreement else ""
                line += (
                    f"   {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}], p {change.p_holm:.2g}"
                )
                line += f"{pairs_note(change, row['n'])}{why}"
            lines.append(line)
        return lines

    def __repr__(self) -> str:
        return f"HarnessResult({visible(self.summary)})"

    def _repr_html_(self) -> str:
        from headwise.figures.cell import cell

        tables = [("Metrics", self.metrics), ("Differences", self.differences)]
        return cell(self.summary, tables=[(name, frame) for name, frame in tables if not frame.empty])


def tabulated(
    runs: Mapping[str, Any], manifest: Mapping[str, Any], tasks: Mapping[str, Any], *, seed: int
) -> HarnessResult:
    """From what the harness gave back for every arm, and its tasks; `seed` is that of the intervals of differences."""
    import pandas as pd

    metrics = pd.DataFrame(
        [asdict(row) for arm, results in runs.items() for row in metric_rows(arm, results)]
    )
    frame = pd.DataFrame([row for arm, results in runs.items() for row in example_rows(arm, results)])
    rules = {
        name: {metric: getattr(rule, "__name__", "") for metric, rule in task.aggregation().items()}
        for name, task in tasks.items()
    }
    differences = pd.DataFrame(difference_rows(metrics, frame, rules, seed=seed))
    return HarnessResult(metrics, differences, frame, manifest)


def load_harness(path: str | Path) -> HarnessResult:
    """Read what `HarnessResult.save` wrote as `.json` or `.parquet`.

    Raises:
        InputError: the file is missing, is damaged or changed, or is no result of the harness.
    """
    import pandas as pd

    def build(about: Mapping[str, Any], frame: pd.DataFrame) -> HarnessResult:
        HarnessManifest.check(about["manifest"])
        metrics = [from_fields(MetricRow, row) for row in about["metrics"]]
        named = [{name: row.pop(name) for name in ("arm", "task", "filter")} for row in about["differences"]]
        differences = list(map(Difference.from_dict, about["differences"]))
        _check(metrics, list(zip(named, differences, strict=True)), frame)
        rows = [{**names, **asdict(item)} for names, item in zip(named, differences, strict=True)]
        return HarnessResult(pd.DataFrame(map(asdict, metrics)), pd.DataFrame(rows), frame, about["manifest"])

    fields = {"metrics": list, "differences": list, "manifest": dict}
    return load_table(path, build, what="harness result", rows=ROWS, fields=fields)


def _check(
    metrics: Sequence[MetricRow],
    differences: Sequence[tuple[Mapping[str, str], Difference]],
    frame: pd.DataFrame,
) -> None:
    """Refuse what was read from a damaged file.

    Raises:
        ValueError: a number that could not have been found, or parts that do not belong together.
    """
    values: dict[tuple[str, ...], float] = {}
    for row in metrics:
        check_fields(row)
        if row.stderr < 0 or not 0 <= row.n <= len(frame):
            raise ValueError(f"{row.metric}: n is {row.n}, the standard error {row.stderr}")
        values[row.arm, row.task, row.metric, row.filter] = row.value
    arms = list(dict.fromkeys(row.arm for row in metrics))
    if arms[:1] != [NONE] or arms != list(frame["arm"].drop_duplicates()) or len(values) < len(metrics):
        raise ValueError("metrics and examples do not belong together")
    check_ids(frame, ("arm", "task", "filter", "id"))
    for item in filter(None, frame["log_probabilities"]):
        if max(item) > _NEAR:
            raise ValueError(f"a log-probability is {max(item)}")
    for names, item in differences:
        check_number(item, examples=len(frame))
        pair = [values[arm, names["task"], item.metric, names["filter"]] for arm in (NONE, names["arm"])]
        nan = float("nan")
        for value in pair:
            check_number(Estimate(item.metric, value, nan, nan, 0, item.unit, None, NO_INTERVAL), examples=0)
        if abs(item.value - (pair[1] - pair[0])) > _NEAR * (1 + sum(map(abs, pair))):
            raise ValueError(f"{item.metric}: the difference of {pair[1]} and {pair[0]} is {item.value}")


def _name(row: Any) -> str:
    """The metric, with the filter that responses went through, if they did."""
    return row["metric"] if row["filter"] == "none" else f"{row['metric']} ({row['filter']})"
