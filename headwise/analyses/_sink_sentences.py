"""What sinks are found, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.analyses._heads import by_tower
from headwise.analyses._received import MIN_ROWS, Received, labels_of
from headwise.analyses.sentences import one_sentence, percent
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace


Facts = tuple[Sequence[Received], Sequence[Received]]
"""Received attention of every tower and kind, and the same of those keys alone that enough rows saw."""


def sink_sentence(
    frame: pd.DataFrame, trace: Trace | None, epsilon: float, min_rows: int, facts: Facts | None
) -> str:
    """The strongest key of every tower and kind; of the table alone where the trace is not at hand."""
    if trace is None or facts is None:
        return by_tower(frame, lambda part: _of_table(part, epsilon))
    groups, kept = facts[0], {group.name: group for group in facts[1]}
    return one_sentence(
        {
            group.name: _sentence(kept[group.name], trace, epsilon)
            + logit_clause(_of_group(frame, group)["to_logit"].mean())
            if group.name in kept
            else "left out, "
            + ("every row is NaN" if group.unknown else f"no key was seen by {min_rows} rows")
            for group in groups
        }
    )


def logit_clause(share: float) -> str:
    """What sink logits take, where that is half a percent or more; they write nothing and show in no pattern."""
    return f"; sink logits take {percent(share)} of the attention and write nothing" if share > 0.005 else ""


def rate_sentence(frame: pd.DataFrame, epsilon: float) -> str:
    """How often the first key is a sink."""
    return by_tower(frame, lambda part: _rate_sentence(part, epsilon))


def _of_table(frame: pd.DataFrame, epsilon: float) -> str:
    """The key that takes the most, summed over examples: its name, its strongest layers, and whose sink it is."""
    strongest: Any = frame.groupby("offset", sort=False)["mean_received"].sum().idxmax()
    rows = frame[frame["offset"] == strongest]
    examples, with_sink = frame["example"].nunique(), int((rows["heads"] > 0).sum())
    heads = (frame["heads"] / frame["share"]).max()  # NaN where no key is a sink
    found = rows["heads"].sum()
    pairs = f"{found} of {round(heads * examples)} (example, head) pairs" if found else "no head"
    key = _named(set(rows["token"]), set(rows["position"]), int(strongest))
    layers = _layers(rows["peak_layer"].min(), rows["peak_layer"].max())
    return (
        f"{key} takes {percent(rows['peak_received'].mean())} of the attention in {layers}, where it is strongest; "
        f"it is a sink (alpha > {epsilon:g}) of {pairs}, in {with_sink} of {examples} examples"
        + logit_clause(frame["to_logit"].mean())
    )


def _of_group(frame: pd.DataFrame, group: Received) -> pd.DataFrame:
    return frame[(frame["tower"] == group.tower) & (frame["kind"] == group.kind)]


def _sentence(group: Received, trace: Trace, epsilon: float) -> str:
    """The strongest offset that every example has, where it is strong, and how many heads have a sink at all."""
    there = (~group.alpha.isnan()).any(1)
    known = there[there.any(1)].all(0)
    offset = int(group.alpha.nanmean((0, 1)).where(known, torch.nan).nan_to_num(-1).argmax())
    first, last, peak = _strong_layers(group, offset, epsilon)
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
        f"{_key_name(group, trace, offset)} takes {percent(peak)} of the attention in {_layers(first, last)}; "
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
    tokens = set(labels_of(group, trace)[0][examples.numpy(), positions.numpy()])
    return _named(tokens, set(positions.tolist()), offset)


def _named(tokens: Collection[object], positions: Collection[int], offset: int) -> str:
    """A key by its token and its position, as far as there is only one."""
    token = next(iter(tokens)) if len(tokens) == 1 else None
    place = f"position {min(positions)}" if len(positions) == 1 else f"position {offset} after the padding"
    return f"{quoted_token(token)} ({place})" if isinstance(token, str) else f"the key at {place}"


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first}–{last}"


def _rate_sentence(frame: pd.DataFrame, epsilon: float) -> str:
    counts = frame.groupby("offset").agg({"sinks": "sum", "triples": "sum", "most_rows": "max"})
    rates = (100.0 * counts["sinks"] / counts["triples"])[counts["most_rows"] >= MIN_ROWS]
    if rates.empty:
        return f"no key was seen by {MIN_ROWS} rows or more, so there is no sink rate"
    best = rates.idxmax()
    first = (
        f"the first key is a sink in {rates[0]:.1f} % of (example, layer, head) triples (alpha > {epsilon:g})"
    )
    return first if best == 0 else f"{first}; most often position {best}, {rates[best]:.1f} %"
