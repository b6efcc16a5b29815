"""What a search leaves: every setting it tried, the best of them, and the judgement of that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.evaluation.results.arm import NONE, pairs_note
from headwise.evaluation.results.comparison import judgement
from headwise.evaluation.results.io import store_or_draw
from headwise.evaluation.results.manifest import SearchManifest
from headwise.evaluation.results.methods import NEAR
from headwise.evaluation.results.numbers import check_numbers, unsaved
from headwise.evaluation.statistics.estimate import NO_INTERVAL, Estimate, number_text, span
from headwise.results.store import load_table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from headwise.evaluation.results.comparison import Comparison
    from headwise.evaluation.statistics.paired import Difference


@dataclass(frozen=True)
class Search:
    """Settings of a fix, tried on validation examples; the best, judged on test examples that no setting saw."""

    task: str
    metric: str
    """What the settings were chosen by."""
    kind: str
    """The class of the fix."""
    frame: pd.DataFrame = field(repr=False)
    """One row per trial: trial, the parameters, the metric on the validation examples; the first changes nothing."""
    best: Mapping[str, Any] | None
    """The parameters of the best setting; None when none was better than no change."""
    fix: Any = field(repr=False, compare=False)
    """The fix with these parameters, ready for `hw.patch`; None when none was better than no change, and in a search
    that was read from a file: `hw.save_spec` keeps a fix."""
    comparison: Comparison | None = field(repr=False)
    """The best setting against no fix, on the test examples; None when none was better than no change. Of a search that
    was read from a file it has all but the examples."""
    manifest: Mapping[str, Any] = field(repr=False)
    """Task, ids, model, versions, sampler and space: the same call tries the same settings."""

    @property
    def summary(self) -> str:
        """The finding on validation and on test examples, one sentence with numbers."""
        values = self.frame[self.metric]
        refused = len(self.manifest["refused"])
        left_out = f" {refused} that lost what the task guards were left out." if refused else ""
        if shared := self.manifest.get("left_out"):
            left_out += f" Not chosen on, since they share content with the test: {shared} examples."
        count, n = len(self.frame) - 1, len(self.manifest["validation_ids"])
        start = number_text(values.iloc[0], ".3f")
        effect = self.manifest.get("smallest_effect", 0.0)
        if self.best is None or self.comparison is None:
            return (
                f"{self.task}: none of {count} settings of {self.kind} is better than no change"
                f"{f' by {effect:g}' if effect else ''} on {n} validation examples ({self.metric} {start}); nothing "
                f"was judged on test examples.{left_out}"
            )
        chosen = ", ".join(f"{name} = {value:.4g}" for name, value in self.best.items())
        change = self.comparison.arms[1].differences[self.metric]
        top, before, after = (
            number_text(value, ".3f")
            for value in (
                values.iloc[int(self.manifest["best_trial"])],
                *(arm.estimates[self.metric].value for arm in self.comparison.arms),
            )
        )
        pairs = pairs_note(change, self.comparison.n)
        why = replace(change, p_holm=change.p).disagreement
        split = f" Interval and p disagree, for {why} (take p)." if why else ""
        small = f", less than {effect:g}, the smallest worth having" if abs(change.value) < effect else ""
        return (
            f"{self.task}: the best of {count} settings of {self.kind} on {n} validation examples is {chosen} "
            f"({self.metric} {start} → {top}); on {self.comparison.n} test examples {before} → {after} "
            f"({number_text(change.value, '+.3f')}, {span(change, '+.3f', words=True)}, "
            f"p = {change.p:.2g}{pairs}{small})."
            f"{split}{left_out}"
        )

    def to_frame(self) -> pd.DataFrame:
        """The trials."""
        return self.frame

    def to_dict(self) -> dict[str, Any]:
        """Everything but the trials, JSON-able; the judgement without its examples."""
        return {
            "task": self.task,
            "metric": self.metric,
            "kind": self.kind,
            "best": None if self.best is None else dict(self.best),
            "summary": self.summary,
            "test": None if self.comparison is None else self.comparison.to_dict(),
            "manifest": dict(self.manifest),
        }

    def plot(self) -> go.Figure:
        """The metric on the validation examples against every parameter that was searched."""
        from headwise.evaluation.results.figures import search_figure

        return search_figure(
            self.frame,
            self.manifest,
            metric=self.metric,
            title=f"{self.task}: settings of {self.kind}",
            unit=f"{self.manifest['unit']}, " if self.manifest["unit"] else "",
            best=int(self.manifest["best_trial"]) if self.best is not None else None,
        )

    def save(self, path: str | Path) -> Path:
        """Write the search: `.json` and `.parquet` hold everything, `.csv` the trials, `.html` the trials with their
        figure, `.svg` and `.png` the figure.

        The judgement is in it without its examples, which `search.comparison.save` keeps.

        Raises:
            InputError: on another suffix, when the folder does not exist, when a number is impossible in its unit, or
                when a picture is asked for without kaleido (`headwise[figures]`) or a browser to draw it.
        """
        with unsaved():
            check_numbers(_values(self), examples=len(self.manifest["validation_ids"]))
        if self.comparison is not None:
            self.comparison.require_possible()
        tables = [("Trials", self.frame)]
        return store_or_draw(
            path, self, self.frame, self.to_dict(), what="search", tables=tables, rows="trials"
        )

    def __repr__(self) -> str:
        return f"Search({visible(self.summary)})"

    def _repr_html_(self) -> str:
        from headwise.figures.cell import cell

        return cell(self.summary, tables=[("Trials", self.frame)])


def load_search(path: str | Path) -> Search:
    """Read what `Search.save` wrote as `.json` or `.parquet`.

    Raises:
        InputError: the file is missing, is damaged or changed, or is no search.
    """
    import pandas as pd

    def build(about: Mapping[str, Any], frame: pd.DataFrame) -> Search:
        manifest, test = about["manifest"], about["test"]
        SearchManifest.check(manifest)
        comparison = None
        if test is not None:
            none = pd.DataFrame({"arm": [], "id": []})
            comparison = judgement(test, [NONE, *test["manifest"]["fixes"]], none)
        known = {name: about[name] for name in ("task", "metric", "kind", "best", "manifest")}
        found = Search(frame=frame, fix=None, comparison=comparison, **known)
        _check(found)
        return found

    judged, best = (dict, type(None)), (dict, type(None))
    fields = {"task": str, "metric": str, "kind": str, "best": best, "summary": str, "test": judged}
    return load_table(path, build, what="search", rows="trials", fields={**fields, "manifest": dict})


def _check(found: Search) -> None:
    """Refuse a search that was read from a damaged file.

    Raises:
        ValueError: trials that are none of its space, or a best one that is none of its trials.
    """
    frame, manifest, judged = found.frame, found.manifest, found.comparison
    space, count = manifest["space"], len(frame)
    if list(frame) != ["trial", *space, found.metric] or frame["trial"].to_list() != list(range(count)):
        raise ValueError("its rows are no trials of its parameters")
    for name, (low, high) in space.items():
        values = frame[name]
        if values.dtype.kind not in "if" or not (values.isna() | values.between(low, high)).all():
            raise ValueError(f"a setting of {name} lies outside of {low} to {high}")
    check_numbers(_values(found), examples=len(manifest["validation_ids"]))
    place = manifest["best_trial"]
    if place >= count or not manifest["refused"].keys() <= set(map(str, range(count))):
        raise ValueError("trials are named that are not there")
    if found.best is not None and found.best != frame.loc[place, list(space)].to_dict():
        raise ValueError("its best setting is not that of its best trial")
    if (found.best is None) != (judged is None):
        raise ValueError("its best setting and the judgement of that do not belong together")
    if judged is not None:
        _check_best(found, judged.arms[1].differences)
    if judged is not None and (judged.task != found.task or found.metric not in judged.arms[0].estimates):
        raise ValueError("the judgement is of another task or metric")


def _check_best(found: Search, differences: Mapping[str, Difference]) -> None:
    """Refuse a best trial that another one was better than, among those that lost no guard.

    Raises:
        ValueError: the trials, with their numbers.
    """
    values = found.frame[found.metric]
    if found.metric in differences and differences[found.metric].higher_is_better is False:
        values = -values
    place, able = found.manifest["best_trial"], values[np.isfinite(values)]
    able = able.drop([int(number) for number in found.manifest["refused"]], errors="ignore")
    if place not in able.index or able[place] < able.max():
        raise ValueError(f"trial {place} is not the best, with {values[place]}")
    effect = found.manifest.get("smallest_effect", 0.0)
    if not place or values[place] - values[0] < effect - NEAR:
        raise ValueError(f"trial {place} is no better than no change by {effect}")


def _values(found: Search) -> list[Estimate]:
    """The metric of every trial."""
    n, unit, nan = len(found.manifest["validation_ids"]), found.manifest["unit"], float("nan")
    values = found.frame[found.metric].to_list()
    return [Estimate(found.metric, value, nan, nan, n, unit, None, NO_INTERVAL) for value in values]
