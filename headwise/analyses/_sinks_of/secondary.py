"""Tokens that point where the first one points for a few layers: secondary sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._heads import by_tower
from headwise.analyses._received import received
from headwise.analyses.record import analysis
from headwise.errors import CaptureError, InputError
from headwise.functional.secondary import active_levels, alignment, written_shares
from headwise.probes.trace.levels import Level, residual_levels
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

CANDIDATES = 4
"""First tokens among which the primary sink is looked for (ours)."""
ALIKE = 1e-4
"""Share by which norms differ through rounding alone; of such candidates the first is taken."""
MIN_ROWS = 16
"""Rows that must see a key before its score counts (ours)."""


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    primary = frame[frame["type"] == "primary"].iloc[0]
    secondary = frame[frame["type"] == "secondary"]
    told = (
        f"the primary sink is {quoted_token(str(primary['token']))} (position {primary['position']}), in the outputs "
        f"of layers {primary['start']} to {primary['start'] + primary['lifetime'] - 1}"
    )
    if secondary.empty:
        return f"no secondary sink; {told}"
    levels = secondary.groupby(["start", "lifetime"]).size().sort_values(ascending=False, kind="stable")
    kinds = ", ".join(f"({start}, {life}) × {count}" for (start, life), count in levels.head(4).items())  # type: ignore[misc]
    return f"{len(secondary)} secondary sinks, (first layer, lifetime) × count: {kinds}; {told}"


@analysis(
    kind="positions",
    keys=("example", "tower", "kind", "call", "position"),
    value="lifetime",
    unit="layers",
    description="Number of layers whose output at the token points where the primary sink points, |cos| above "
    "{least_alignment:g}.",
    summary=_summary,
    needs=("stats", "residual"),
    title="Secondary sinks",
)
def secondary_sinks(
    trace: Trace, least_alignment: float = 0.9, types: Literal["relative", "released"] = "relative"
) -> pd.DataFrame:
    """Tokens whose residual points where that of the first token points, for some layers in the middle.

    Wong et al., "On the Existence and Behaviour of Secondary Attention Sinks" (arXiv 2512.22213), by the released code,
    on the residual behind each layer; the last one is taken before the final norm (theirs: behind it). The primary
    sink is the one of the first four tokens with the largest mean norm (ours; theirs: of the first two or three).

    Args:
        trace: a capture with statistics and `residual`.
        least_alignment: a token is a sink of a layer when |cos| with the primary sink there exceeds this.
        types: `"relative"`: as the primary one from 0.7 of its lifetime on, secondary above a tenth of the layers and
            above 2 (ours); `"released"`: from the number of layers less 15 on, and above 4.

    Returns:
        One row per example, tower and token that is aligned in some layer, the primary one in any case: `type`
        (`primary`, `as primary`, `secondary`, `short`), `start`, the first layer with an aligned output, `lifetime`,
        the number of such layers, `contiguous`; means over these of `alignment`, `norm`, `primary_norm` and
        `others_norm` (tokens that are never aligned); `written`, the share of its part in the primary direction that
        layer `start` wrote; `score`, the attention it receives in the layers that read these outputs, mean over heads
        and rows, NaN where fewer than 16 rows see it; `relative_score`, that over the primary one's; `token`, `role`.

    Raises:
        InputError: least_alignment is not between 0 and 1, or "released" is asked of a tower of 19 layers or fewer.
        CaptureError: the trace holds no statistics, no residual, or not that of two layers of a tower.
    """
    from pandas import DataFrame

    if not 0 < least_alignment < 1:
        raise InputError(
            f"least_alignment is a cosine between 0 and 1, got {least_alignment}.",
            remedy="The paper has 0.9.",
        )
    scores = _scores(trace)
    towers: dict[tuple[str, int], list[Level]] = {}
    for level in residual_levels(trace):
        if level.number:
            towers.setdefault((level.site.tower, level.site.call), []).append(level)
    fewest = min(map(len, towers.values()), default=0)
    if types == "released" and fewest <= 19:
        raise InputError(
            'types="released" is for models of more than 19 layers.',
            evidence=f"a tower has {fewest}",
            remedy='Use types="relative".',
        )
    rows = [
        row
        for levels in towers.values()
        if len(levels) > 1
        for row in _rows(levels, scores, least_alignment, released=types == "released")
    ]
    if not rows:
        raise CaptureError(
            "Secondary sinks are looked for in two layers of a tower or more, and this trace has fewer.",
            evidence=", ".join(f"{tower}: {len(levels)}" for (tower, _), levels in towers.items())
            or "no residual",
            remedy="Capture every layer: hw.capture(subject, residual=True). See trace.warnings for NaN.",
        )
    return DataFrame(rows)


Scores = dict[tuple[str, int], Float[Tensor, "example position"]]


def _scores(trace: Trace) -> Scores:
    """By tower and layer, the mean attention of every key over heads and rows; NaN where few rows see it."""
    found: Scores = {}
    for group in received(trace):
        alphas, seen = group.per_layer(group.alpha), group.per_layer(group.rows)
        for layer, alpha in alphas.items() if group.kind == "self" else ():
            found[group.tower, layer] = alpha.where(seen[layer] >= MIN_ROWS, torch.nan).nanmean(1)
    return found


def _rows(levels: list[Level], scores: Scores, least: float, *, released: bool) -> list[dict[str, Any]]:
    first, found = levels[0], []
    layers = [level.number - 1 for level in levels]
    for example in range(len(first.residual)):
        real = torch.stack([level.real[example] for level in levels]).all(0).nonzero().flatten()
        if not len(real):
            continue
        positions = [first.positions[row] for row in real.tolist()]
        stream = torch.stack([level.residual[example].cpu()[real].float() for level in levels])
        norms = stream.norm(dim=-1)
        lengths = norms[:, :CANDIDATES].mean(0)
        primary = int((lengths > lengths.max() * (1 - ALIKE)).int().argmax())
        start, end = active_levels(norms[:, primary])
        aligned = alignment(stream, primary)
        inside = torch.zeros(len(levels), 1, dtype=torch.bool)
        inside[start:end] = True
        flags = (aligned > least) & inside
        flags[:, : primary + 1] = False
        flags[start:end, primary] = True
        written, others = written_shares(stream, primary), ~flags.any(0)
        offset = positions[0]
        for token in flags.any(0).nonzero().flatten().tolist():
            life = flags[:, token].nonzero().flatten()
            begun, count = int(life[0]), len(life)
            position = positions[token]
            own, of_primary = (
                _mean(scores, first.site.tower, example, [layers[at] + 1 for at in life.tolist()], where)
                for where in (position - offset, positions[primary] - offset)
            )
            found.append(
                {
                    "example": example,
                    "tower": first.site.tower,
                    "kind": first.site.kind,
                    "call": first.site.call,
                    "position": position,
                    "token": first.tokens[example, position],
                    "role": first.roles[example, position],
                    "type": _type(
                        count, end - start, len(levels), released=released, primary=token == primary
                    ),
                    "start": layers[begun],
                    "lifetime": count,
                    "contiguous": int(life[-1]) - begun + 1 == count,
                    "alignment": float(aligned[life, token].mean()),
                    "norm": float(norms[life, token].mean()),
                    "primary_norm": float(norms[life, primary].mean()),
                    "others_norm": float(norms[life][:, others].mean()),
                    "written": float(written[begun, token]),
                    "score": own,
                    "relative_score": own / of_primary if of_primary else float("nan"),
                }
            )
    return found


def _mean(scores: Scores, tower: str, example: int, layers: list[int], offset: int) -> float:
    values = [
        scores[tower, layer][example, offset]
        for layer in layers
        if (tower, layer) in scores and offset < scores[tower, layer].shape[1]
    ]
    return float(torch.stack(values).nanmean()) if values else float("nan")


def _type(lifetime: int, active: int, layers: int, *, released: bool, primary: bool) -> str:
    whole = layers - 15 if released else 0.7 * active
    short = 4 if released else max(2, 0.1 * layers)
    if primary:
        return "primary"
    if lifetime >= whole:
        return "as primary"
    return "secondary" if lifetime > short else "short"
