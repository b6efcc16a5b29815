"""Records of one run, and which of its examples were returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from headwise.layout import TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace import nonfinite
from headwise.probes.trace.buffer import Buffer
from headwise.probes.trace.fields import FIELDS, Record


@dataclass(frozen=True)
class RunResult:
    """Records of one run."""

    records: dict[Site, Record]
    layout: TokenLayout
    returned: list[int] | None
    """Examples that are the sequences that were returned; None for all."""
    counts: nonfinite.Counts
    """Numbers that are not there."""

    def select(self, index: Tensor, examples: int) -> RunResult:
        """Records of some of the examples that went in; beams are copies of one side by side."""

        def chosen(count: int) -> Tensor:
            copies = max(1, count // examples)
            return (index[:, None] * copies + torch.arange(copies)).flatten()

        records: dict[Site, Record] = {
            site: {
                name: value[chosen(len(value)).to(value.device)] if FIELDS[name][0] == "example" else value
                for name, value in record.items()
            }
            for site, record in self.records.items()
        }
        axes = {tower: axis.select(chosen(len(axis.roles))) for tower, axis in self.layout.axes.items()}
        returned = self.returned
        if returned is not None:
            number = max(len(axis.roles) for axis in self.layout.axes.values())
            renumbered = {old: new for new, old in enumerate(chosen(number).tolist())}
            returned = [renumbered[old] for old in returned if old in renumbered]
        return RunResult(records, TokenLayout(axes), returned, self.counts)


def computed(buffers: Mapping[Site, Buffer]) -> tuple[dict[Site, Record], nonfinite.Counts]:
    """The records of buffers, and how many of their numbers are not finite."""
    records: dict[Site, Record] = {site: buffer.compute() for site, buffer in buffers.items() if buffer}
    counts: nonfinite.Counts = {}
    for site, record in records.items():
        nonfinite.add(counts, site, nonfinite.count(record, buffers[site].valid()))
    return records, counts
