"""Rows of a trace that write tokens, by the token they write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped

from headwise.analyses.sentences import kinds_of
from headwise.errors import CaptureError, InputError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.frames import labels, statistics

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

Rows = Literal["auto", "generated", "all"]
"""Rows that a table is about: those that write what was generated, all that write a token, or, `auto`, the first where
anything was generated and the second elsewhere."""
_NO_WORDS = ("image", "audio", "silence")
"""Roles of positions that no row writes: they are put there."""


class Written(NamedTuple):
    """Rows of one tower that write tokens."""

    sites: tuple[Site, ...]
    positions: Int[np.ndarray, " row"]
    chosen: Bool[np.ndarray, "example row"]
    """True on the rows that the table is about."""
    step: Int[np.ndarray, "example row"]
    """0 is the first of an example's."""
    token: Shaped[np.ndarray, "example row"]
    """The token that the row writes: the next one. None where it was never read."""
    read: Shaped[np.ndarray, "example row"]
    """The token that the row reads."""
    role: Shaped[np.ndarray, "example row"]
    """The role of the token that it reads."""


def written(trace: Trace, rows: Rows = "auto") -> list[Written]:
    """Rows that write tokens, tower by tower.

    Raises:
        InputError: `rows` is something else.
        CaptureError: no row of the trace writes a token that is asked for.
    """
    if rows not in ("auto", "generated", "all"):
        raise InputError(
            "rows says which rows the table is about.",
            evidence=f"got {rows!r}",
            remedy='Use "auto", "generated" or "all".',
        )
    records = statistics(trace.records)
    towers = dict.fromkeys(site.tower for site in records)
    found = [one for tower in towers if (one := _of_tower(trace, tower, rows)) is not None]
    if rows != "all" and any(has_generated for _, has_generated in found):
        found = [(one, has_generated) for one, has_generated in found if has_generated]
    if not found:
        raise CaptureError(
            "No row of this trace writes a token."
            if rows != "generated"
            else "Nothing was generated in this trace.",
            evidence=kinds_of(records),
            remedy="Capture a language model or a decoder, and generate inside the with block.",
        )
    return [one for one, _ in found]


def _of_tower(trace: Trace, tower: str, rows: Rows) -> tuple[Written, bool] | None:
    records = statistics(trace.records)
    sites = tuple(site for site in records if site.tower == tower)
    site = next((site for site in sites if site.kind == "self"), sites[0])
    record = records[site]
    positions = record["positions"].cpu().numpy().astype(int)
    n_keys = record["n_keys"].detach().float().cpu().numpy()
    real = ~np.isnan(n_keys)
    if not real.any():
        return None
    width = int(positions.max()) + 2
    tokens, roles = labels(trace.layout.axes.get(tower), len(real), width)
    generated = roles == "generated"
    writes = real & (generated[:, positions] | generated[:, positions + 1])
    has_generated = bool(writes.any())
    if rows == "all" or (rows == "auto" and not has_generated):
        if not has_generated and _is_encoder(site, n_keys, real):
            return None
        writes = real & ~np.isin(roles[:, positions + 1], _NO_WORDS)
    elif not has_generated:
        return None
    tokens[roles == "padding"] = None
    step = np.where(writes, writes.cumsum(1) - 1, -1)
    return (
        Written(
            sites,
            positions,
            writes,
            step,
            tokens[:, positions + 1],
            tokens[:, positions],
            roles[:, positions],
        ),
        has_generated,
    )


def _is_encoder(site: Site, n_keys: np.ndarray, real: np.ndarray) -> bool:
    """True where the first row sees what the last one does; of cross-attention alone, the tower's name tells."""
    if site.kind == "cross":
        return site.tower not in ("text", "decoder")
    ends = [n_keys[example, row][[0, -1]] for example, row in enumerate(real) if row.any()]
    return all(first == last > 1 for first, last in ends)
