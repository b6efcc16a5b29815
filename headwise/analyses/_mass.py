"""What kind of positions heads look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from headwise.analyses._heads import HEAD, by_tower
from headwise.analyses._received import check_known, received
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.layout import ROLES, role_groups

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame, by: str) -> str:
    return by_tower(frame, lambda part: _sentence(part, by))


def _sentence(frame: pd.DataFrame, by: str) -> str:
    shares = frame.groupby(by, sort=False)["mass"].mean().sort_values(ascending=False)
    return "attention falls on " + ", ".join(f"{name} {percent(share)}" for name, share in shares.items())


@analysis(
    kind="heads",
    keys=(*HEAD, "{by}"),
    value="mass",
    unit="share",
    description="Share of a head's attention on the keys of each {by}, mean over valid rows; 1 is all.",
    summary=_summary,
)
def mass(trace: Trace, by: Literal["role", "modality"] = "role") -> pd.DataFrame:
    """Share of every head's attention that falls on each role, or each modality.

    Mean over the valid rows of an example. Shares of a head add up to 1, or to less where the model has sink
    logits, which take weight and give it to no key.

    Args:
        trace: a capture with statistics.
        by: `"role"` (bos, first, special, punctuation, content, image, …) or `"modality"` (text, image,
            audio, silence).

    Returns:
        One row per example, head and role (or modality) that occurs among the keys of its tower.

    Raises:
        InputError: when `by` is something else.
        CaptureError: when the trace holds no statistics.
    """
    heads = trace.to_frame("head")
    wide = heads[list(HEAD)].copy()
    for name, members in role_groups(by, [role for role in ROLES if f"mass_{role}" in heads]).items():
        wide[name] = heads[[f"mass_{ROLES[number]}" for number in members]].sum(axis=1, skipna=False)
    frame = wide.melt(list(HEAD), var_name=by, value_name="mass")
    there = frame.groupby(["tower", "kind", by])["mass"].transform("max") > 0  # else no key has the role
    if not there.any():
        check_known(received(trace))
        there = frame["mass"].isna()
    frame = frame[there]
    order = wide.groupby(["tower", "kind"], sort=False).ngroup()
    return frame.iloc[np.argsort(np.resize(order, len(there))[frame.index], kind="stable")].reset_index(
        drop=True
    )
