"""Statistics of attention rows and keys, gathered tile by tile."""

from __future__ import annotations

import torch
from torch import Tensor

from headwise.probes.kernels.statistics import CallLayout, Statistics, counts_of, finish
from headwise.probes.kernels.tiles import Tiles


class Gather:
    """Collects the statistics of tiles.

    Row entropy is lse - sum(p * s), both counted from the row's highest score: trained models have scores of some
    hundred, whose difference would have few digits left. Received mass is a one-row product; mean position and mass
    per role are products with a few columns, where the last role is what remains of the row.
    """

    def __init__(self, tiles: Tiles, layout: CallLayout) -> None:
        self.tiles, self.layout = tiles, layout
        call, device, wide = tiles.call, tiles.query.device, tiles.wide
        shape = (tiles.folded, tiles.groups, tiles.rows)
        names = ("entropy", "maximum", "lse", "distance")
        self.row = {name: torch.empty(shape, dtype=wide, device=device) for name in names}
        self.mass = torch.empty(*shape, len(layout.roles), dtype=wide, device=device)
        self.received = torch.zeros(tiles.folded, tiles.groups, tiles.keys, dtype=wide, device=device)
        self.linear = call.causal and not layout.cross
        self.index = torch.arange(tiles.keys, device=device)
        classes = layout.classes.to(device, wide)
        if layout.key_valid is not None:
            classes = classes * layout.key_valid[..., None]
        columns = [classes[..., :-1]]
        if self.linear:
            columns.append((self.index / tiles.keys).to(wide)[None, :, None].expand(len(classes), -1, -1))
        self.columns = torch.cat(columns, -1).transpose(1, 2).contiguous()
        """(example or 1, column, key)."""
        self.details: dict[str, Tensor] = {}
        self.weights = torch.ones(1, 1, tiles.rows, dtype=wide, device=device)
        if layout.query_valid is not None:
            self.weights = layout.query_valid.to(wide)[:, None]

    def add(
        self, heads: slice, block: slice, span: slice, scores: Tensor, pattern: Tensor, edited: bool
    ) -> None:
        """Folds one tile into the sums; the scores are used up."""
        folded, groups, rows, keys = pattern.shape
        top = pattern.amax(-1)
        total = pattern.sum(-1) if edited or self.tiles.call.sinks is not None else 1.0
        if edited:
            self.row["lse"][heads, :, block] = torch.nan
            self.row["entropy"][heads, :, block] = torch.special.entr(pattern).sum(-1)
        else:
            highest, distance = scores.amax(-1), -top.log()
            self.row["lse"][heads, :, block] = highest + distance
            below = scores.sub_(highest.unsqueeze(-1)).mul_(pattern).sum(-1)
            self.row["entropy"][heads, :, block] = distance * total - below
        self.row["maximum"][heads, :, block] = top
        weights = self._per_head(self.weights[..., block], heads)
        weights = weights[:, None].expand(folded, groups, 1, rows).reshape(-1, 1, rows)
        received = torch.bmm(weights, pattern.view(-1, rows, keys))
        self.received[heads, :, span].add_(received.view(folded, groups, keys))
        sums = self._products(pattern, heads, span)
        others = sums[..., : self.columns.shape[1] - self.linear]
        if self.layout.roles:
            self.mass[heads, :, block, :-1] = others
            self.mass[heads, :, block, -1] = total - others.sum(-1)
        if self.layout.details:
            self._add_details(heads, block, span, pattern)
        query = self.layout.positions[block].to(pattern.device) - self.layout.key_start
        if self.linear:
            self.row["distance"][heads, :, block] = query * total - sums[..., -1] * self.tiles.keys
        elif not self.layout.cross:
            apart = (query[:, None] - self.index[span]).abs().to(pattern.dtype)
            self.row["distance"][heads, :, block] = torch.linalg.vecdot(pattern, apart)

    def _add_details(self, heads: slice, block: slice, span: slice, pattern: Tensor) -> None:
        details = self.layout.details
        own = (
            None
            if self.layout.cross
            else self.layout.positions[block].to(pattern.device) - self.layout.key_start
        )
        own = None if own is None else own - span.start
        for name, value in details.rows(pattern, own).items():
            if name not in self.details:
                shape = (*self.row["entropy"].shape, value.shape[-1])
                self.details[name] = torch.empty(shape, dtype=value.dtype, device=value.device)
            self.details[name][heads, :, block] = value
        weights = self._per_head(self.weights[..., block], heads)
        later = details.keys(pattern, own, weights)
        if later is not None:
            zero = torch.zeros_like(self.received) if "later" not in self.details else self.details["later"]
            self.details["later"] = zero
            zero[heads, :, span].add_(later)

    def statistics(self, count: tuple[Tensor, Tensor] | None) -> Statistics:
        """The sums as `Statistics`."""
        tiles = self.tiles
        if count is None:
            count = counts_of(tiles.call, self.layout)
        shape = (tiles.batch, tiles.heads)
        row = {name: value.view(*shape, tiles.rows) for name, value in self.row.items()}
        mass = self.mass.view(*shape, tiles.rows, -1)
        details = {name: value.view(*shape, *value.shape[2:]) for name, value in self.details.items()}
        return finish(row, mass, self.received.view(*shape, tiles.keys), self.layout, count, details)

    def _products(self, pattern: Tensor, heads: slice, span: slice) -> Tensor:
        """Sums of the pattern over every column, (folded, group, query, column)."""
        folded, groups, rows, keys = pattern.shape
        columns = self.columns[..., span]
        if columns.shape[1] == 0:
            return pattern.new_zeros(folded, groups, rows, 0)
        if len(columns) == 1:
            return torch.nn.functional.linear(pattern.view(-1, keys), columns[0]).view(
                folded, groups, rows, -1
            )
        several = self._per_head(columns, heads).transpose(1, 2)
        return torch.bmm(pattern.view(folded, -1, keys), several).view(folded, groups, rows, -1)

    def _per_head(self, tensor: Tensor, heads: slice) -> Tensor:
        """One copy per key head of what is given per example."""
        if len(tensor) == 1:
            return tensor.expand(heads.stop - heads.start, -1, -1)
        return tensor.repeat_interleave(self.tiles.kv_heads, 0)[heads]
