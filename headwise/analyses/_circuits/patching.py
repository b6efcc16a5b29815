"""What every head, and the residual at every place, is worth to a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from headwise.analyses._circuits.given import Task, experiment_of, provenance
from headwise.analyses.record import analysis
from headwise.circuits.experiment import Experiment, MetricName
from headwise.circuits.nodes import By, Node, node_patching
from headwise.circuits.patching import Direction
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject

SITE = ("tower", "kind", "layer", "call")


def _summary(frame: pd.DataFrame, direction: str) -> str:
    what = "destroys" if direction == "noise" else "restores"
    top = frame.loc[frame["normalised"].abs().sort_values(ascending=False, kind="stable").index].head(3)
    heads = ", ".join(
        f"{head_name(row['layer'], row['head'])} ({row['normalised']:.0%})" for row in top.to_dict("records")
    )
    return f"One head alone {what} most of the difference between the prompts: {heads}."


@analysis(
    kind="heads",
    keys=(*SITE, "head"),
    value="effect",
    unit="change of the metric",
    description="The metric with {quantity} of one head replaced ({by}, {direction}) less the metric without, mean "
    "over pairs.",
    summary=_summary,
    inputs="subject",
    title="Activation patching",
)
def activation_patching(
    subject: Subject,
    data: Task,
    quantity: Literal["z", "q", "k", "v", "pattern"] = "z",
    direction: Direction = "noise",
    by: By = "resample",
    metric: MetricName = "logit_difference",
    batch_size: int = 16,
    check: bool = True,
) -> pd.DataFrame:
    """The effect of replacing one head's activation, at all positions, by that of the other prompt of each pair.

    Args:
        subject: any model with a next token.
        data: a `PairSet`, or rows with `clean`, `corrupted`, `correct` and `wrong`.
        quantity: what is replaced; k and v are those of a key head, and so of all heads that share it.
        direction: `"noise"` puts corrupted values into the clean run, `"denoise"` clean ones into the corrupted run.
        by: `"resample"`, `"mean"` (over the other prompts) or `"zero"`.
        metric: `"logit_difference"` or `"log_probability"`.
        batch_size: pairs that run side by side.
        check: refuse a model that does not do the task.

    Returns:
        One row per head: `effect`, and `normalised`, its share of the difference between the prompts (1: one head
        destroys, or restores, all of it).

    Raises:
        InputError: as `hw.analyses.circuit`.
    """
    experiment = experiment_of(
        subject, data, "activation_patching", metric=metric, batch_size=batch_size, check=check
    )
    found = node_patching(experiment, quantity, direction=direction, by=by)
    return _frame(experiment, found, direction, "head")


def _sentence(frame: pd.DataFrame) -> str:
    best = frame.iloc[int(frame["effect"].abs().argmax())]
    return (
        f"The residual entering layer {best['layer']} at position {best['position']} counts most "
        f"({best['normalised']:.0%} of the difference between the prompts)."
    )


@analysis(
    kind="matrix",
    axes=("layer", "position"),
    keys=(*SITE, "position"),
    value="effect",
    unit="change of the metric",
    description="The metric with the residual that enters a layer replaced at one position ({direction}) less the "
    "metric without, mean over pairs.",
    summary=_sentence,
    inputs="subject",
    title="Residual patching",
)
def residual_patching(
    subject: Subject,
    data: Task,
    direction: Direction = "noise",
    metric: MetricName = "logit_difference",
    batch_size: int = 16,
    check: bool = True,
) -> pd.DataFrame:
    """Where the difference between the prompts stands on its way through layers and positions.

    Args:
        subject: any model with a next token.
        data: pairs of one length.
        direction: as in `activation_patching`.
        metric: `"logit_difference"` or `"log_probability"`.
        batch_size: pairs that run side by side.
        check: refuse a model that does not do the task.

    Returns:
        One row per layer and position: `effect` and `normalised`.

    Raises:
        InputError: as `hw.analyses.circuit`, or prompts differ in length.
    """
    experiment = experiment_of(
        subject, data, "residual_patching", metric=metric, batch_size=batch_size, check=check
    )
    found = node_patching(experiment, "residual", direction=direction, per_position=True)
    return _frame(experiment, found, direction, "position")


def _frame(
    experiment: Experiment, found: dict[Node, float], direction: Direction, column: str
) -> pd.DataFrame:
    from pandas import DataFrame

    whole = float((experiment.corrupted - experiment.clean).mean()) * (1 if direction == "noise" else -1)
    frame = DataFrame(
        [
            {
                **dict(zip(SITE, node.site.place, strict=True)),
                column: getattr(node, column),
                "effect": effect,
                "normalised": effect / whole,
            }
            for node, effect in found.items()
        ]
    )
    frame.attrs["provenance"] = provenance(experiment)
    return frame
