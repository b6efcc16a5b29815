"""What the analyses that give one number per head share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headwise.analyses._received import check_known, received
from headwise.analyses.sentences import one_sentence
from headwise.errors import CaptureError
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

HEAD = ("example", "tower", "kind", "layer", "call", "head")
"""The columns that name a head of an example."""


def head_table(trace: Trace, columns: list[str], *, value: str) -> pd.DataFrame:
    """The chosen columns of the trace's head table, without the heads for which `value` is not defined.

    Raises:
        CaptureError: when it is defined for no head.
    """
    frame = trace.to_frame("head")[columns].dropna(subset=value, ignore_index=True)
    if frame.empty:
        check_known(received(trace))
        raise CaptureError(
            f"{value.replace('_', ' ').capitalize()} is defined for no head of this trace.",
            evidence=", ".join(dict.fromkeys(f"{site.tower} {site.kind}" for site in trace.sites)),
            remedy="Capture a longer input, or another kind of attention.",
        )
    return frame


def extremes(frame: pd.DataFrame, value: str) -> tuple[tuple[str, float], tuple[str, float]]:
    """The heads with the smallest and the largest mean over examples: ("L2H3", value)."""
    means = frame.groupby(["layer", "head"], as_index=False)[[value]].mean().sort_values(value)
    low, high = (
        (head_name(int(row["layer"]), int(row["head"])), float(row[value]))
        for row in (means.iloc[0], means.iloc[-1])
    )
    return low, high


def by_tower(frame: pd.DataFrame, sentence: Callable[[pd.DataFrame], str]) -> str:
    """One sentence about the frame; with several towers or kinds, one clause for each."""
    groups = frame.groupby(["tower", "kind"], sort=False)
    return one_sentence({f"{tower} {kind}": sentence(part) for (tower, kind), part in groups})
