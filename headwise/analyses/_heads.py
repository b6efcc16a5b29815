"""What the analyses that give one number per head share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._received import check_known, received
from headwise.analyses.sentences import kinds_of, one_sentence
from headwise.errors import CaptureError
from headwise.probes.trace.fields import Record, head_numbers
from headwise.probes.trace.frames import site_columns
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

HEAD = ("example", "tower", "kind", "layer", "call", "head")
"""The columns that name a head of an example."""


def heads_frame(
    site: Site, record: Record, field: str, columns: Mapping[str, Float[Tensor, "example head"]]
) -> pd.DataFrame:
    """Numbers of the heads of a site as a table: a row for every example and head whose first number is no NaN.

    Args:
        site: whose heads they are.
        record: of the site.
        field: a field of the record with the same heads.
        columns: the numbers by name.
    """
    from pandas import DataFrame

    example, head = (~next(iter(columns.values())).isnan()).nonzero(as_tuple=True)
    numbers = np.array(head_numbers(record, field))
    return DataFrame(
        {"example": example.numpy(), **site_columns(site), "head": numbers[head.numpy()]}
        | {name: values[example, head].double().numpy() for name, values in columns.items()}
    )


def some_heads(trace: Trace, parts: Iterable[pd.DataFrame], what: str) -> pd.DataFrame:
    """The tables of all sites as one.

    Raises:
        CaptureError: what it says is defined for no head.
    """
    from pandas import concat

    there = [part for part in parts if len(part)]
    if not there:
        check_known(received(trace))
        raise CaptureError(
            f"{what} is defined for no head of this trace.",
            evidence=kinds_of(trace.sites),
            remedy="Capture a longer input, or another kind of attention.",
        )
    return concat(there, ignore_index=True)


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
