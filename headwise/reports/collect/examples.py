"""The examples on the page: tokens with the attention they receive, what is seen or heard, what is aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float

from headwise.analyses._rows.written import written
from headwise.errors import CaptureError
from headwise.layout import ROLES, Axis
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.trace.frames import labels
from headwise.reports.collect.shares import KeyShares
from headwise.reports.content.formatting import group_key, known
from headwise.reports.content.shown_example import Matrix, ShownExample, Strip, Token

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace
    from headwise.reports.collect.patterns import PatternThumbnails

MOST_EXAMPLES, MOST_TOKENS = 16, 1024
NEVER_READ = "(unread)"
"""Names the row that writes the last token, where nobody knows which."""
MOST_COLUMNS = 400
"""Cross-attention is shown over at most this many columns; more are pooled by their sum."""


def examples_of(
    trace: Trace,
    shares: KeyShares,
    thumbnails: PatternThumbnails | None,
    sinks: Mapping[Site, Bool[torch.Tensor, "example key"]],
    last: Sequence[str | None] = (),
) -> tuple[ShownExample, ...]:
    """The examples of the trace: their tokens, and their cross-attention where patterns were kept.

    Args:
        trace: with statistics.
        shares: mean received attention.
        thumbnails: the patterns, made small.
        sinks: True at the keys that are sinks, per site.
        last: per example, the token that was generated last and never read again, where it is known.
    """
    found: dict[int, ShownExample] = {}
    for tower, axis in trace.layout.axes.items():
        mean, rest = _received(trace, shares, thumbnails, tower, axis, sinks)
        texts, _ = labels(axis, *axis.roles.shape)
        if mean is None or rest is None or all(text is None for text in texts.flat):
            continue
        for number in range(min(len(axis.roles), MOST_EXAMPLES)):
            tokens = _tokens(axis, number, texts[number], mean[number], rest[number])
            strip = Strip(tower, tuple(tokens[:MOST_TOKENS]), max(len(tokens) - MOST_TOKENS, 0))
            own = found.get(number, ShownExample(number))
            found[number] = replace(own, strips=(*own.strips, strip))
    for number, matrix in _matrices(trace, thumbnails, last).items():
        found[number] = replace(found.get(number, ShownExample(number)), matrix=matrix)
    return tuple(found[number] for number in sorted(found))


def _received(
    trace: Trace,
    shares: KeyShares,
    thumbnails: PatternThumbnails | None,
    tower: str,
    axis: Axis,
    sinks: Mapping[Site, Bool[torch.Tensor, "example key"]],
) -> tuple[Float[torch.Tensor, "example position"] | None, Float[torch.Tensor, "example position"] | None]:
    """Mean over the heads of all self-attention sites of the tower, and the same of what the sinks leave.

    Without patterns the second is an estimate: the mean by what the sinks leave of all rows together, at most 1.
    NaN where too few rows see the key; in the second also at the sinks.
    """
    means, rests = [], []
    for site, heads in shares.items():
        if (site.tower, site.kind, len(heads), heads.shape[2]) != (tower, "self", *axis.roles.shape):
            continue
        share = heads.nanmean(1)
        means.append(share)
        keys = sinks.get(site, torch.zeros(share.shape, dtype=torch.bool))
        if thumbnails is not None and site in thumbnails.received_without:
            own = thumbnails.received_without[site]
            rests.append(torch.nn.functional.pad(own, (0, share.shape[1] - own.shape[1]), value=torch.nan))
            continue
        received = trace.records[site]["received"].detach().float().cpu().sum(1)
        left = 1 - received.where(keys, 0).nansum(1, keepdim=True) / received.nansum(1, keepdim=True)
        rests.append((share / left.clamp_min(1e-6)).clamp(max=1).where(~keys, torch.nan))
    if not means:
        return None, None
    return torch.stack(means).nanmean(0), torch.stack(rests).nanmean(0)


def _tokens(
    axis: Axis, example: int, texts: Sequence[str | None], shares: torch.Tensor, rest: torch.Tensor
) -> list[Token]:
    """Padding is dropped; a run of image or audio positions becomes one token that carries their mean."""
    roles = [ROLES[role] for role in axis.roles[example].tolist()]
    tokens = []
    for role, run in groupby(range(len(roles)), key=lambda position: roles[position]):
        positions = list(run)
        if role == "padding":
            continue
        if role in ("image", "audio") and len(positions) > 1:
            share, left = (known(values[positions].nanmean().item()) for values in (shares, rest))
            name = f"{role} × {len(positions)}"
            tokens.append(Token(positions[0], name, role, share, left, len(positions)))
            continue
        for position in positions:
            share, left = (known(values[position].item()) for values in (shares, rest))
            tokens.append(Token(position, texts[position] or "", role, share, left))
    return tokens


def _matrices(
    trace: Trace, thumbnails: PatternThumbnails | None, last: Sequence[str | None]
) -> dict[int, Matrix]:
    """Cross-attention per example, where a tower that reads tokens looks at another."""
    found: dict[int, Matrix] = {}
    crossing = thumbnails.crossing if thumbnails else {}
    writing = _writing(trace) if crossing else set()
    for tower, patterns in crossing.items():
        axis = trace.layout.axes.get(tower)
        seen = trace.layout.axes.get(key_tower(tower, "cross", trace.layout.axes))
        for number, weights in enumerate(patterns[:MOST_EXAMPLES]):
            if weights.numel():
                matrix = _matrix(tower, number, weights.numpy(), axis, seen)
                end = last[number] if number < len(last) else None
                found[number] = _by_written(matrix, axis, number, end) if tower in writing else matrix
    return found


def _writing(trace: Trace) -> set[str]:
    """Towers whose rows write tokens; an encoder's do not."""
    try:
        return {rows.sites[0].tower for rows in written(trace, "all")}
    except CaptureError:
        return set()


def _by_written(matrix: Matrix, axis: Axis | None, number: int, last: str | None) -> Matrix:
    """The matrix with rows named by the token that they write: what the row below reads."""
    count = len(matrix.weights)
    names = () if axis is None else _names(axis, number, _real(axis, number)[1 : count + 1])
    if axis is not None and len(names) < count:
        names += (last or NEVER_READ,)
    return replace(matrix, rows=names, first_row=matrix.first_row + 1, written=True)


def _matrix(tower: str, number: int, weights: np.ndarray, axis: Axis | None, seen: Axis | None) -> Matrix:
    weights = weights[:MOST_TOKENS]
    columns = _real(seen, number)[: weights.shape[1]]
    names = _names(seen, number, columns) if seen is not None and seen.seconds is None else ()
    seconds = None
    if seen is not None and seen.seconds is not None and len(columns):
        seconds = float(seen.seconds[columns[-1], 1])
    step = -(-weights.shape[1] // MOST_COLUMNS)
    if step > 1:
        weights = np.add.reduceat(weights, np.arange(0, weights.shape[1], step), axis=1)
        names = ()
    rows = _real(axis, number)[: weights.shape[0]]
    return Matrix(
        group=group_key(tower, "cross"),
        weights=weights,
        rows=_names(axis, number, rows) if axis is not None else (),
        columns=names,
        first_row=rows[0] if rows else 0,
        seconds=seconds,
    )


def trimmed(matrix: Matrix | None, seconds: float) -> Matrix | None:
    """A matrix over time without the columns behind the end of a sound."""
    if matrix is None or matrix.seconds is None or seconds >= matrix.seconds:
        return matrix
    step = matrix.seconds / matrix.weights.shape[1]
    kept = min(int(np.ceil(seconds / step)), matrix.weights.shape[1])
    total = float(matrix.weights.sum())
    beyond = float(matrix.weights[:, kept:].sum()) / total if total else 0.0
    return replace(matrix, weights=matrix.weights[:, :kept], seconds=kept * step, beyond=beyond)


def _real(axis: Axis | None, number: int) -> list[int]:
    return axis.valid[number].nonzero().flatten().tolist() if axis is not None else []


def _names(axis: Axis, number: int, positions: Sequence[int]) -> tuple[str, ...]:
    texts, roles = labels(axis, *axis.roles.shape)
    return tuple(str(texts[number][place] or roles[number][place] or place) for place in positions)
