"""Keys that take a large share of a head's attention whatever the query: attention sinks.

The measure is that of Gu et al., "When Attention Sink Emerges in Language Models: An Empirical View": α of a
key is the mean attention it receives from the rows that may see it; a key is a sink of a head when α exceeds
ε = 0.3. The paper takes α over 64 tokens of prefill; here it comes from running sums, so prompts of any
length, batches and generated rows count too, and keys that fewer than `min_rows` rows saw are left out
(ours): the last causal keys are seen by so few rows that any head that looks at itself would pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwise.analyses._received import Received, check_known, received
from headwise.analyses.result import Result, one_sentence, percent, provenance_of
from headwise.errors import CaptureError, InputError
from headwise.probes.trace.frames import key_axis, labels
from headwise.probes.trace.nonfinite import caveat
from headwise.text import quoted_token

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

MIN_ROWS = 4


def sinks(trace: Trace, epsilon: float = 0.3, min_rows: int = MIN_ROWS) -> Result:
    """The keys that act as attention sinks, strongest first.

    Args:
        trace: a capture with statistics.
        epsilon: a key is a sink of a head when its mean received attention exceeds this share.
        min_rows: leave out keys that fewer rows may see.

    Returns:
        One row per example, stack, kind and key that is a sink of some head; the strongest key is listed in
        any case. `position` is absolute, `offset` counts from the first real key (so padding on the left
        changes nothing); `mean_received` is the mean over all heads, `peak_received` the mean over the heads
        of `peak_layer`; `heads` is the number of heads in which the key is a sink, `share` their share.

    Raises:
        InputError: when epsilon is not a share or min_rows is below 1.
        CaptureError: when the trace holds no statistics, or no key was seen by `min_rows` rows.
    """
    import pandas as pd

    _check(epsilon)
    if min_rows < 1:
        raise InputError(f"min_rows must be 1 or more, got {min_rows}.")
    groups = received(trace)
    kept = {group.name: group for group in _with_rows(groups, min_rows)}
    frame = pd.DataFrame([row for group in kept.values() for row in _rows(group, trace, epsilon)])
    clauses = {
        group.name: _sentence(kept[group.name], trace, epsilon)
        if group.name in kept
        else "left out, " + ("every row is NaN" if group.unknown else f"no key was seen by {min_rows} rows")
        for group in groups
    }
    return Result(
        name="sinks",
        frame=frame.sort_values("mean_received", ascending=False, kind="stable", ignore_index=True),
        unit="share",
        description="Mean attention a key receives from the rows that may see it, mean over all heads. A key "
        f"is a sink of a head that gives it more than {epsilon:g} on average, over {min_rows} rows or more.",
        provenance=provenance_of(trace.meta, "sinks", epsilon=epsilon, min_rows=min_rows),
        summary=one_sentence(clauses) + caveat(trace.meta),
        value="mean_received",
    )


def sink_rate(trace: Trace, epsilon: float = 0.3) -> Result:
    """How often each position is a sink: percent of (example, layer, head) triples in which α exceeds
    epsilon.

    Args:
        trace: a capture with statistics.
        epsilon: threshold on the mean received attention.

    Returns:
        One row per stack, kind, layer and offset from the first real key: `rate` (percent), `mean_received`,
        `triples` (examples × heads that have the key) and `rows`, the fewest rows that saw it. A causal key
        near the end is seen by few rows, and then a high rate says little.

    Raises:
        InputError: when epsilon is not a share.
        CaptureError: when the trace holds no statistics.
    """
    import pandas as pd

    _check(epsilon)
    groups = received(trace)
    parts = []
    check_known(groups)
    for group in groups:
        alphas, rows = group.per_layer(group.alpha), group.per_layer(group.rows)
        for layer, alpha in alphas.items():
            triples = (~alpha.isnan()).sum((0, 1))
            part = pd.DataFrame(
                {
                    "stack": group.stack,
                    "kind": group.kind,
                    "layer": layer,
                    "offset": range(alpha.shape[2]),
                    "rate": (100.0 * (alpha > epsilon).sum((0, 1)) / triples).numpy(),
                    "mean_received": alpha.nanmean((0, 1)).numpy(),
                    "triples": triples.numpy(),
                    "rows": rows[layer].nan_to_num(torch.inf).amin((0, 1)).numpy(),
                }
            )
            parts.append(part[part["triples"] > 0])
    frame = pd.concat(parts, ignore_index=True).astype({"rows": int})
    return Result(
        name="sink_rate",
        frame=frame,
        unit="percent",
        description="Percent of (example, head) pairs of a layer in which the position receives more than "
        f"{epsilon:g} of the attention on average. Positions count from the first real key.",
        provenance=provenance_of(trace.meta, "sink_rate", epsilon=epsilon),
        summary=one_sentence({group.name: _rate_sentence(group, epsilon) for group in groups})
        + caveat(trace.meta),
        value="rate",
    )


def _check(epsilon: float) -> None:
    if not 0.0 < epsilon < 1.0:
        raise InputError(
            f"epsilon is a share between 0 and 1, got {epsilon}.", remedy="The usual value is 0.3."
        )


def _with_rows(groups: list[Received], min_rows: int) -> list[Received]:
    kept = [replace(g, alpha=g.alpha.where(g.rows >= min_rows, torch.nan)) for g in groups]
    kept = [group for group in kept if not group.alpha.isnan().all()]
    if not kept:
        most = max(int(group.rows.nan_to_num(0).max()) for group in groups)
        check_known(groups)
        raise CaptureError(
            f"No key was seen by {min_rows} rows.",
            evidence=f"the most is {most}",
            remedy="Capture a longer input, or lower min_rows.",
        )
    return kept


def _rows(group: Received, trace: Trace, epsilon: float) -> list[dict[str, Any]]:
    tokens, roles = _labels(group, trace)
    layers = group.per_layer(group.alpha)
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
                    "stack": group.stack,
                    "kind": group.kind,
                    "position": position,
                    "offset": offset,
                    "token": tokens[example, position],
                    "role": roles[example, position],
                    "mean_received": means[offset].item(),
                    "peak_layer": peak,
                    "peak_received": profile[peak][offset].item(),
                    "heads": int(heads[offset]),
                    "share": heads[offset].item() / int((~alpha[:, offset].isnan()).sum()),
                }
            )
    return rows


def _labels(group: Received, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    return labels(key_axis(trace, group.sites[0]), len(group.first), group.alpha.shape[2])


def _sentence(group: Received, trace: Trace, epsilon: float) -> str:
    """The strongest offset that every example has, where it is strong, and how many heads have a sink at all."""
    there = (~group.alpha.isnan()).any(1)
    known = there[there.any(1)].all(0)
    offset = int(group.alpha.nanmean((0, 1)).where(known, torch.nan).nan_to_num(-1).argmax())
    first, last, peak = _strong_layers(group, offset, epsilon)
    layers = f"layer {first}" if first == last else f"layers {first}–{last}"
    real = ~group.alpha.isnan().all(2)
    with_sink = int((group.alpha > epsilon).any(2).sum())
    heads = "heads" if real.any(1).sum() == 1 else "(example, head) pairs"
    flat = _flat(group, offset)
    doubt = (
        f"; in so short an input a flat map gives it {percent(flat)}, too"
        if epsilon < flat and peak < 2 * flat
        else ""
    )
    return (
        f"{_key_name(group, trace, offset)} takes {percent(peak)} of the attention in {layers}; "
        f"{with_sink} of {int(real.sum())} {heads} have a sink (alpha > {epsilon:g}){doubt}"
    )


def _flat(group: Received, offset: int) -> float:
    """What a key gets from heads that look alike at all keys they see; causal where later keys are seen by fewer."""
    rows = group.rows.nan_to_num(0).amax((0, 1))
    keys = int((rows > 0).sum())
    if keys == 0 or rows[keys - 1] == rows[0]:
        return 1.0 / max(keys, 1)
    return sum(1.0 / (row + 1) for row in range(offset, keys)) / max(keys - offset, 1)


def _strong_layers(group: Received, offset: int, epsilon: float) -> tuple[int, int, float]:
    """The layers around the strongest whose mean over heads exceeds epsilon, and the mean over them."""
    means = {layer: alpha[:, :, offset].nanmean() for layer, alpha in group.per_layer(group.alpha).items()}
    order = [layer for layer, mean in means.items() if not mean.isnan()]
    low = high = order.index(max(order, key=lambda layer: means[layer]))
    while low > 0 and means[order[low - 1]] > epsilon:
        low -= 1
    while high + 1 < len(order) and means[order[high + 1]] > epsilon:
        high += 1
    run: list[Tensor] = [means[layer] for layer in order[low : high + 1]]
    return order[low], order[high], torch.stack(run).mean().item()


def _key_name(group: Received, trace: Trace, offset: int) -> str:
    """The token and the position of an offset, where all examples agree on them."""
    examples = (~group.alpha[:, :, offset].isnan()).any(1).nonzero().flatten()
    positions = group.first[examples] + offset
    tokens = set(_labels(group, trace)[0][examples.numpy(), positions.numpy()])
    same_place = len(positions.unique()) == 1
    place = f"position {positions[0]}" if same_place else f"position {offset} after the padding"
    token = tokens.pop() if len(tokens) == 1 else None
    return f"the key at {place}" if token is None else f"{quoted_token(token)} ({place})"


def _rate_sentence(group: Received, epsilon: float) -> str:
    rates = 100.0 * (group.alpha > epsilon).sum((0, 1)) / (~group.alpha.isnan()).sum((0, 1))
    rates = rates.where(group.rows.nan_to_num(0).amax((0, 1)) >= MIN_ROWS, torch.nan)
    if rates.isnan().all():
        return f"no key was seen by {MIN_ROWS} rows or more, so there is no sink rate"
    best = int(rates.nan_to_num(-1).argmax())
    first = (
        f"the first key is a sink in {rates[0]:.1f} % of (example, layer, head) triples (alpha > {epsilon:g})"
    )
    return first if best == 0 else f"{first}; most often position {best}, {rates[best]:.1f} %"
