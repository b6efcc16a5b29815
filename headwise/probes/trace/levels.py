"""Levels of the residual stream: 0 is the embedding, l what enters layer l, the last one what leaves the last layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import RESIDUALS
from headwise.probes.trace.frames import labels

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace


@dataclass(frozen=True)
class Level:
    """The residual at one level of a tower, in one call of its layer."""

    site: Site
    """The attention of the layer that it enters, or, of the last level, that it leaves."""
    number: int
    residual: Float[Tensor, "example query width"]
    positions: list[int]
    """Absolute position of every row."""
    real: Bool[Tensor, "example query"]
    """False on rows that are padding or hold NaN."""
    tokens: np.ndarray
    """Text by example and position, None where it is not known."""
    roles: np.ndarray
    """Role by example and position, None where it is not known."""

    def stream(self, example: int) -> tuple[Float[Tensor, "row width"], list[int]]:
        """The real rows of an example in float32, and their positions."""
        rows = self.real[example].nonzero().flatten()
        values = self.residual[example][rows.to(self.residual.device)].float().cpu()
        return values, [self.positions[row] for row in rows.tolist()]


def residual_levels(trace: Trace) -> Iterator[Level]:
    """Every level of every tower of a trace with `residual`, layer by layer; a layer with two kinds is there once."""
    done = set()
    for site, record in trace.records.items():
        for number, field in enumerate(RESIDUALS, start=site.layer):
            if field in record and (site.tower, number, site.call) not in done:
                done.add((site.tower, number, site.call))
                residual, positions = record[field].detach(), record["positions"].tolist()
                axis = trace.layout.axes.get(site.tower)
                tokens, roles = labels(axis, len(residual), max(positions, default=-1) + 1)
                real = torch.from_numpy(roles[:, positions] != "padding") & ~residual.isnan().any(-1).cpu()
                yield Level(site, number, residual, positions, real, tokens, roles)
