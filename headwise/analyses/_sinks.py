"""Keys that take a large share of a head's attention whatever the query: attention sinks.

The measure is that of Gu et al., "When Attention Sink Emerges in Language Models: An Empirical View": α of a
key is the mean attention it receives from the rows that may see it; a key is a sink of a head when α exceeds
ε = 0.3. The paper takes α over 64 tokens of prefill; here it comes from running sums, so prompts of any
length, batches and generated rows count too, and keys that fewer than `min_rows` rows saw are left out
(ours): the last causal keys are seen by so few rows that any head that looks at itself would pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headwise.analyses._received import (
    MIN_ROWS,
    Received,
    check_known,
    labels_of,
    received,
    share_to_logits,
    side_by_side,
    with_rows,
)
from headwise.analyses._sink_sentences import rate_sentence, sink_sentence
from headwise.analyses.record import analysis
from headwise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


@analysis(
    kind="positions",
    keys=("example", "tower", "kind", "position"),
    value="mean_received",
    unit="share",
    description="Mean attention a key receives from the rows that may see it, mean over all heads. A key is a sink of "
    "a head that gives it more than {epsilon:g} on average, over {min_rows} rows or more.",
    summary=sink_sentence,
)
def sinks(trace: Trace, epsilon: float = 0.3, min_rows: int = MIN_ROWS) -> pd.DataFrame:
    """The keys that act as attention sinks, strongest first.

    Args:
        trace: a capture with statistics.
        epsilon: a key is a sink of a head when its mean received attention exceeds this share.
        min_rows: leave out keys that fewer rows may see.

    Returns:
        One row per example, tower, kind and key that is a sink of some head; the strongest key is listed in
        any case. `position` is absolute, `offset` counts from the first real key (so padding on the left
        changes nothing); `mean_received` is the mean over all heads, `peak_received` the mean over the heads
        of `peak_layer`; `heads` is the number of heads in which the key is a sink, `share` their share;
        `to_logit` is the share of all attention, mean over heads and rows, that goes to sink logits and so to no key.

    Raises:
        InputError: when epsilon is not a share or min_rows is below 1.
        CaptureError: when the trace holds no statistics, or no key was seen by `min_rows` rows.
    """
    from pandas import DataFrame

    check_options(epsilon, min_rows)
    groups = received(trace)
    kept = with_rows(groups, min_rows)
    frame = DataFrame([row for group in kept for row in _rows(group, trace, epsilon)])
    frame = frame.sort_values("mean_received", ascending=False, kind="stable", ignore_index=True)
    frame.attrs["facts"] = groups, kept
    return frame


def _merged_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The rates of all examples, from the rows of several tables."""
    keys = ["tower", "kind", "layer", "offset"]
    total = (
        (frame["mean_received"] * frame["triples"]).groupby([frame[key] for key in keys], sort=False).sum()
    )
    how = {"triples": "sum", "sinks": "sum", "rows": "min", "most_rows": "max"}
    merged = frame.groupby(keys, sort=False).agg(how)
    merged.insert(0, "rate", 100.0 * merged["sinks"] / merged["triples"])
    merged.insert(1, "mean_received", total / merged["triples"])
    merged = merged.reset_index()
    site = merged.groupby(["tower", "kind"], sort=False).ngroup()
    order = np.lexsort((merged["offset"], merged["layer"], site))
    return merged.iloc[order]


@analysis(
    kind="matrix",
    axes=("layer", "offset"),
    keys=("tower", "kind", "layer", "offset"),
    value="rate",
    unit="percent",
    description="Percent of (example, head) pairs of a layer in which the position receives more than {epsilon:g} of "
    "the attention on average. Positions count from the first real key.",
    summary=rate_sentence,
    merge=_merged_rates,
    title="Sink rate per position",
)
def sink_rate(trace: Trace, epsilon: float = 0.3) -> pd.DataFrame:
    """How often each position is a sink.

    Percent of (example, layer, head) triples in which α exceeds epsilon.

    Args:
        trace: a capture with statistics.
        epsilon: threshold on the mean received attention.

    Returns:
        One row per tower, kind, layer and offset from the first real key: `rate` (percent), `mean_received`,
        `triples` (examples × heads that have the key), `sinks` (those in which it is a sink), and `rows` and
        `most_rows`, the fewest and the most rows that saw it. A causal key near the end is seen by few rows, and
        then a high rate says little.

    Raises:
        InputError: when epsilon is not a share.
        CaptureError: when the trace holds no statistics.
    """
    from pandas import DataFrame, concat

    check_options(epsilon)
    groups = received(trace)
    parts = []
    check_known(groups)
    for group in groups:
        alphas, rows = group.per_layer(group.alpha), group.per_layer(group.rows)
        for layer, alpha in alphas.items():
            triples, sinks = (~alpha.isnan()).sum((0, 1)), (alpha > epsilon).sum((0, 1))
            part = DataFrame(
                {
                    "tower": group.tower,
                    "kind": group.kind,
                    "layer": layer,
                    "offset": range(alpha.shape[2]),
                    "rate": (100.0 * sinks / triples).numpy(),
                    "mean_received": alpha.nanmean((0, 1)).numpy(),
                    "triples": triples.numpy(),
                    "sinks": sinks.numpy(),
                    "rows": rows[layer].nan_to_num(torch.inf).amin((0, 1)).numpy(),
                    "most_rows": rows[layer].nan_to_num(0).amax((0, 1)).numpy(),
                }
            )
            parts.append(part[part["triples"] > 0])
    return concat(parts, ignore_index=True).astype({"rows": int, "most_rows": int})


def check_options(epsilon: float, min_rows: int = 1) -> None:
    """Refuses what is no share or no number of rows.

    Raises:
        InputError: epsilon is not between 0 and 1, or min_rows is below 1.
    """
    if not 0.0 < epsilon < 1.0:
        raise InputError(
            f"epsilon is a share between 0 and 1, got {epsilon}.", remedy="The usual value is 0.3."
        )
    if min_rows < 1:
        raise InputError(f"min_rows must be 1 or more, got {min_rows}.")


def _rows(group: Received, trace: Trace, epsilon: float) -> list[dict[str, Any]]:
    tokens, roles = labels_of(group, trace)
    layers = group.per_layer(group.alpha)
    shares = [share_to_logits(trace.records[site])[..., None] for site in group.sites]
    logits = side_by_side(shares)[..., 0].nanmean(1)
    rows = []
    for example, alpha in enumerate(group.alpha):
        means, heads = alpha.nanmean(0), (alpha > epsilon).sum(0)
        if means.isnan().all():
            continue
        profile = {layer: heads_of[example].nanmean(0) for layer, heads_of in layers.items()}
        listed = {int(means.nan_to_num(-1).argmax()), *heads.nonzero().flatten().tolist()}
        for offset in sorted(listed):
            position = int(group.first[example]) + offset
            peak = max(profile, key=lambda layer: profile[layer][offset].nan_to_num(-1).item())
            rows.append(
                {
                    "example": example,
                    "tower": group.tower,
                    "kind": group.kind,
                    "position": position,
                    "offset": offset,
                    "token": tokens[example, position],
                    "role": roles[example, position],
                    "mean_received": means[offset].item(),
                    "peak_layer": peak,
                    "peak_received": profile[peak][offset].item(),
                    "heads": int(heads[offset]),
                    "to_logit": logits[example].item(),
                    "share": heads[offset].item() / int((~alpha[:, offset].isnan()).sum()),
                }
            )
    return rows
