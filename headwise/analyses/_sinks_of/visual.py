"""Image tokens that draw attention though they show nothing: visual sinks."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._heads import by_tower
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError, InputError
from headwise.functional.redistribution import SHARE_OF_BOUND, sink_score, standing_out
from headwise.probes.trace.fields import at_heads, head_numbers
from headwise.probes.trace.frames import site_columns
from headwise.probes.trace.levels import Level, residual_levels

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.fields import Record
    from headwise.probes.trace.trace import Trace


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    dimensions, sinks = frame["dimensions"][frame["dimensions"] != ""].unique(), frame[frame["sink"]]
    if not len(dimensions):
        return "no residual dimension marks sinks here, so there are none"
    share = percent(len(sinks) / len(frame))
    said = f"by dimensions {' or '.join(dimensions[:3])}, {share} of the image tokens of a layer are sinks"
    if sinks.empty:
        return said
    totals = {name: frame[name].sum() for name in ("received", "contribution")}
    taken = percent(sinks["received"].sum() / totals["received"])
    said += f"; they take {taken} of the attention on the image"
    if totals["contribution"] > 0:
        said += f", and are {percent(sinks['contribution'].sum() / totals['contribution'])} of what it writes"
    if frame["background"].any():
        on, of_all = (percent(part["background"].mean()) for part in (sinks, frame))
        said += f"; {on} of them lie on background, as {of_all} of all do"
    return said


@analysis(
    kind="matrix",
    axes=("layer", "position"),
    keys=("example", "tower", "kind", "layer", "call", "position"),
    value="score",
    unit="ratio",
    description="Sink score of every image token: the largest of the sink dimensions of its residual over the root "
    "mean square. At most the root of the width.",
    summary=_summary,
    needs=("stats", "residual", "norms"),
    sees=True,
    title="Visual sinks",
)
def visual_sinks(
    trace: Trace,
    dimensions: tuple[int, ...] | None = None,
    tau: float | None = None,
    background: tuple[int, ...] = (),
) -> pd.DataFrame:
    """Image tokens that draw attention though they show nothing, what they take, and what they write.

    Kang et al., "See What You Are Told: Visual Attention Sink in Large Multimodal Models" (arXiv 2503.03321). That they
    contribute little is measured by ‖A v W_O‖ (there ‖A x W_OV‖), mean over heads and rows.

    Args:
        trace: a capture with statistics, `residual` and `norms`, of an input with an image.
        dimensions: residual dimensions that mark sinks. None: those in which the beginning of the text, or where there
            is none the token with the largest norm, reaches `tau` in half of the layers, at most four (ours).
        tau: score from which a token is a sink; None is 0.3125 times the root of the width, the paper's 20 of 4096.
        background: places of image tokens, in the order of the image, that show nothing.

    Returns:
        One row per example, layer and image token: `score` of the residual that enters the layer, `sink`, `received`
        (mean attention from the rows that may see it, mean over heads), `contribution` (the same with the norm of what
        it writes, NaN where W_O is not known), `place` in the image, `background`, and the `dimensions`, empty where
        none marks sinks.

    Raises:
        InputError: dimensions that the residual does not have, or a tau that none can reach.
        CaptureError: no image, or no statistics, residual and norms of one site.
    """
    from pandas import DataFrame

    towers: dict[str, list[Level]] = {}
    for level in residual_levels(trace):
        record = trace.records[level.site]
        own = "value_norm" in record and "received" in record and level.site.kind == "self"
        if own and level.number == level.site.layer and (level.roles == "image").any():
            towers.setdefault(level.site.tower, []).append(level)
    rows: list[dict[str, Any]] = []
    for levels in towers.values():
        width = levels[0].residual.shape[-1]
        least = SHARE_OF_BOUND * sqrt(width) if tau is None else tau
        _check(dimensions, least, width)
        examples = range(len(levels[0].residual))
        marks = [_found(levels, example, least) if dimensions is None else dimensions for example in examples]
        rows += [row for level in levels for row in _rows(level, trace, marks, least, set(background))]
    if not rows:
        raise CaptureError(
            "There is no image token with statistics, residual and norms in this trace.",
            evidence=f"towers: {', '.join(dict.fromkeys(site.tower for site in trace.sites))}",
            remedy="Capture an input with an image: hw.capture(subject, residual=True, norms=True).",
        )
    return DataFrame(rows)


def _check(dimensions: tuple[int, ...] | None, tau: float, width: int) -> None:
    if dimensions is not None and not (dimensions and all(0 <= one < width for one in dimensions)):
        raise InputError(
            "dimensions are those of the residual.",
            evidence=f"got {dimensions}, and there are {width}",
            remedy="Leave them out to have them found.",
        )
    if not 0 < tau <= sqrt(width):
        raise InputError(
            f"No token can reach tau = {tau:g}, or all do.",
            evidence=f"a score is at most the root of the width, {sqrt(width):.3g}",
            remedy="Leave it out: 0.3125 times that.",
        )


def _found(levels: list[Level], example: int, least: float) -> tuple[int, ...]:
    """Dimensions in which the beginning of the text stands out, in half of the layers behind the first two."""
    ratios = []
    for level in levels[2:] or levels:
        stream, positions = level.stream(example)
        if positions:
            begins = np.isin(level.roles[example, positions], ("bos", "first"))
            x = stream[int(begins.argmax()) if begins.any() else int(stream.norm(dim=-1).argmax())]
            ratios.append(x.abs() / x.square().mean().sqrt())
    return standing_out(torch.stack(ratios), least) if ratios else ()


def _rows(
    level: Level, trace: Trace, marks: list[tuple[int, ...]], tau: float, background: set[int]
) -> list[dict[str, Any]]:
    record = trace.records[level.site]
    received, contribution = _received(record)
    found = []
    for example, dimensions in enumerate(marks):
        stream, positions = level.stream(example)
        image = np.flatnonzero(level.roles[example, positions] == "image")
        scores = sink_score(stream, dimensions) if dimensions else torch.zeros(len(stream))
        for place, row in enumerate(image.tolist()):
            position = positions[row]
            found.append(
                {
                    "example": example,
                    **site_columns(level.site),
                    "position": position,
                    "place": place,
                    "score": float(scores[row]),
                    "sink": bool(dimensions) and float(scores[row]) >= tau,
                    "received": float(received[example, position]),
                    "contribution": float(contribution[example, position]),
                    "background": place in background,
                    "dimensions": ", ".join(map(str, dimensions)),
                }
            )
    return found


def _received(record: Record) -> tuple[Float[Tensor, "example key"], Float[Tensor, "example key"]]:
    """Mean attention of every key over heads and rows, and the same times the norm of what it writes."""
    seen = record["n_queries"].detach().float().cpu()[:, None]
    alpha = record["received"].detach().float().cpu() / seen
    norms = (
        at_heads(record, "write_norm", head_numbers(record, "received")) if "write_norm" in record else None
    )
    written = torch.full_like(alpha, torch.nan) if norms is None else alpha * norms.detach().float().cpu()
    return alpha.nanmean(1), written.nanmean(1)
