"""Sinks while a model writes: what each written token gives to every sink, and when a new one begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from headwise.analyses._received import MIN_ROWS, Received, labels_of, received, with_rows
from headwise.analyses._rows.written import Rows, Written, written
from headwise.analyses._sinks import check_options
from headwise.analyses.record import analysis
from headwise.analyses.sentences import kinds_of, percent
from headwise.errors import CaptureError
from headwise.probes.trace.frames import site_columns
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame) -> str:
    clauses = []
    for (tower, kind), part in frame.groupby(["tower", "kind"], sort=False):
        means = part.groupby("offset")["mass"].mean().nlargest(3)
        said = [_course(part[part["offset"] == offset]) for offset in means.index]
        late = part.loc[part["generated"], ["example", "offset"]].drop_duplicates()
        clauses.append(f"{tower} {kind}: {', '.join(said)}; {len(late)} of the sinks were written")
    return f"Attention of the rows that write tokens to the strongest sinks, first to last. {'. '.join(clauses)}."


def _course(part: pd.DataFrame) -> str:
    steps = part.groupby("step")["mass"].mean()
    name = quoted_token(part["sink_token"].iloc[0])
    return f"{name} (+{part['offset'].iloc[0]}) {percent(steps.iloc[0])} to {percent(steps.iloc[-1])}"


@analysis(
    kind="matrix",
    axes=("layer", "step"),
    keys=("example", "tower", "kind", "layer", "call", "offset", "step"),
    value="mass",
    unit="share",
    description="Share of attention that the row which writes the token gives to a sink, mean over the heads of a "
    "layer. A key is a sink when a head gives it more than {epsilon:g} on average; `offset` counts from the first real "
    "key.",
    summary=_summary,
    needs=("stats", "maps"),
    writes=True,
    title="Sinks while writing",
)
def decoding_sinks(
    trace: Trace, epsilon: float = 0.3, min_rows: int = MIN_ROWS, rows: Rows = "auto"
) -> pd.DataFrame:
    """What each written token gives to every sink: sinks that stay, fade, or begin in the reply.

    The sinks are those of `sinks`, over all rows of the trace; the curves are ours: the literature looks at prompts.
    The row that writes a token is the one that reads the token before it.

    Args:
        trace: a capture with statistics and patterns, best of a generation.
        epsilon: a key is a sink of a head when its mean received attention exceeds this share.
        min_rows: leave out keys that fewer rows may see.
        rows: `"generated"`, `"all"`, or `"auto"`: generated ones where there are any.

    Returns:
        One row per example, layer, sink and step from which the sink can be seen: `mass`, 0 to 1, mean over heads;
        `heads`, the share of heads that give it more than epsilon in this row; `sink_token` at `offset` from the first
        real key, whether it was `generated`; `token`, which the row writes, and `position` of the row. The strongest
        key is listed in any case.

    Raises:
        InputError: epsilon is no share, min_rows is below 1, or `rows` is something else.
        CaptureError: the trace lacks statistics or patterns, no row writes a token, or no key was seen by enough rows.
    """
    from pandas import concat

    check_options(epsilon, min_rows)
    groups, kept = with_rows(received(trace), min_rows), set(trace.maps)
    parts = [
        _of_site(trace, site, group, rows_of, epsilon)
        for rows_of in written(trace, rows)
        for group in groups
        for site in group.sites
        if site in rows_of.sites and site in kept
    ]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise CaptureError(
            "No row that writes a token sees a sink in the patterns of this trace.",
            evidence=kinds_of(trace.maps),
            remedy="Capture the patterns of the tower that writes: hw.capture(subject, maps=True).",
        )
    return concat(parts, ignore_index=True)


def _of_site(trace: Trace, site: Site, group: Received, rows: Written, epsilon: float) -> pd.DataFrame:
    from pandas import DataFrame

    tokens, roles = labels_of(group, trace)
    listed = (group.alpha > epsilon).any(1)
    strongest = group.alpha.nanmean(1).nan_to_num(-1).argmax(-1)
    listed[torch.arange(len(listed)), strongest] = True
    example, row, offset = (
        index.numpy()
        for index in (torch.from_numpy(rows.chosen)[..., None] & listed[:, None]).nonzero().unbind(1)
    )
    key = group.first.numpy()[example] + offset
    seen = (key <= rows.positions[row]) | (site.kind == "cross")
    example, row, offset, key = (index[seen] for index in (example, row, offset, key))
    given = trace.maps[site].detach()[example, :, row, key].float().cpu()  # (cell, head)
    return DataFrame(
        {
            "example": example,
            **site_columns(site),
            "offset": offset,
            "step": rows.step[example, row],
            "mass": given.nanmean(-1).numpy(),
            "heads": (given > epsilon).float().mean(-1).numpy(),
            "sink_token": tokens[example, key],
            "generated": np.equal(roles[example, key], "generated"),
            "position": rows.positions[row],
            "token": rows.token[example, row],
        }
    )
