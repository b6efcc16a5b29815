"""Entries of the residual that are larger than the rest by orders of magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.analyses._heads import by_tower
from headwise.analyses.record import analysis
from headwise.errors import CaptureError, InputError
from headwise.functional.massive import is_massive
from headwise.probes.trace.frames import site_columns
from headwise.probes.trace.levels import Level, residual_levels
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

RANKS = 3
"""Entries of a layer that are listed in any case."""


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    largest: dict[Any, Any] = frame.nlargest(1, "magnitude").to_dict("records")[0]
    token, ratio = largest["token"], largest["magnitude"] / largest["median"]
    where = quoted_token(token) if isinstance(token, str) else "the token"
    told = (
        f"the largest is {largest['activation']:.4g} in dimension {largest['dimension']} at {where} (position "
        f"{largest['position']}), behind {largest['layer']} layers, {ratio:.3g} times the median"
    )
    hits = frame[frame["massive"]]
    if hits.empty:
        return f"no entry is massive; {told}"
    layers = f"levels {hits['layer'].min()} to {hits['layer'].max()}"
    dimensions = hits["dimension"].value_counts().index.tolist()
    return (
        f"{len(hits)} of the entries of {layers} {'is' if len(hits) == 1 else 'are'} massive, in "
        f"dimensions {', '.join(map(str, dimensions[:4]))}; {told}"
    )


@analysis(
    kind="layers",
    keys=("example", "tower", "kind", "layer", "call", "rank"),
    value="magnitude",
    unit="size",
    description="The largest entries of the residual behind so many layers, by rank. Massive is what exceeds "
    "{largest:g} and {ratio:g} times the median there.",
    summary=_summary,
    needs=("residual",),
    title="Massive activations",
)
def massive_activations(trace: Trace, largest: float = 100.0, ratio: float = 1000.0) -> pd.DataFrame:
    """The entries of the residual that stand out, layer by layer.

    Both rules of Sun et al., "Massive Activations in Large Language Models", on the residual that enters each
    layer and that behind the last one.

    Args:
        trace: a capture with `residual`.
        largest: a massive entry is larger than this,
        ratio: and at least so many times the median size of the entries of its level and example.

    Returns:
        One row for each of the three largest entries of an example and level, and for each other that is massive:
        `layer`, the number of layers that it is behind, 0 for the embedding; `rank` from 1, `activation`, its size
        `magnitude`, `median`, `massive`, `dimension`, `position`, `token` and `role`.

    Raises:
        InputError: largest or ratio is below 0.
        CaptureError: the trace holds no residual, or it is NaN throughout.
    """
    from pandas import DataFrame

    if not (largest >= 0 and ratio >= 0):
        raise InputError(
            "largest and ratio are 0 or more.",
            evidence=f"got {largest:g} and {ratio:g}",
            remedy="The paper has 100 and 1000.",
        )
    levels = list(residual_levels(trace))
    rows = [row for level in levels for row in _rows(level, largest, ratio)]
    if not rows:
        raise CaptureError(
            "The residual of this trace is NaN throughout.",
            evidence=f"{len(levels)} levels",
            remedy="See trace.warnings for the site where it begins; run the model in bfloat16 or float32.",
        )
    return DataFrame(rows)


def _rows(level: Level, largest: float, ratio: float) -> list[dict[str, Any]]:
    place = {**site_columns(level.site), "layer": level.number}
    found = []
    for example in range(len(level.residual)):
        stream, positions = level.stream(example)
        if not positions:
            continue
        massive, median = is_massive(stream, largest=largest, ratio=ratio)
        sizes, order = stream.abs().flatten().topk(min(max(RANKS, int(massive.sum())), stream.numel()))
        for rank, (size, index) in enumerate(zip(sizes.tolist(), order.tolist(), strict=True), 1):
            row, dimension = divmod(index, stream.shape[1])
            position = positions[row]
            found.append(
                {
                    "example": example,
                    **place,
                    "rank": rank,
                    "position": position,
                    "token": level.tokens[example, position],
                    "role": level.roles[example, position],
                    "dimension": dimension,
                    "activation": float(stream[row, dimension]),
                    "magnitude": size,
                    "median": median,
                    "massive": bool(massive[row, dimension]),
                }
            )
    return found
