"""The tiles of an attention call: how large they are, and what of it falls into each."""

from __future__ import annotations

import torch
from torch import Tensor

from headwise.probes.kernels.call import Call

_TILE = 512 * 1024
"""Elements of one tile of scores: 2 MB in float32, so that a tile stays in a core's second-level cache."""
_GRANULE = 256
"""Keys to which tiles in half precision are rounded up: every new width costs a compiled kernel and its memory."""


class Tiles:
    """Sizes of the tiles of a call, and its tensors with batch and key heads folded into one axis."""

    def __init__(self, call: Call, *, whole: bool) -> None:
        self.call = call
        batch, heads, rows, keys = call.shape
        kv_heads = call.key.shape[1]
        self.groups, self.folded, self.heads, self.kv_heads = call.groups, batch * kv_heads, heads, kv_heads
        self.dtype = call.query.dtype
        self.wide = torch.promote_types(self.dtype, torch.float32)
        """The dtype of patterns and sums."""
        self.granule = 1 if self.wide == self.dtype else _GRANULE
        self.hidden = max(-1e30, torch.finfo(self.dtype).min)
        """Score of a key that a row may not see; finite, so that a row that sees nothing stays finite."""
        if whole:
            self.block = max(8, min(rows, 64, _TILE // (batch * heads * keys) or 1))
            self.chunk = self.folded
        else:
            long = keys >= 4096
            self.block = 128 if long or self.wide != self.dtype else 64
            if long:
                self.block = max(32, self.block // self.groups)
            height = self.groups * min(self.block, rows)
            self.chunk = max(1, min(self.folded, _TILE // (height * keys)))
        self.query = call.query.reshape(self.folded, self.groups, rows, -1)
        self.key = call.key.reshape(self.folded, keys, -1)
        self.value = call.value.reshape(self.folded, keys, -1)
        self.rows, self.keys, self.batch = rows, keys, batch

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """First and last+1 key that any row of a block may see."""
        if self.call.causal:
            return 0, min(self.keys, -(-stop // self.granule) * self.granule)
        mask = self.call.mask
        if mask is None or mask.dtype != torch.bool or mask.shape[2] == 1:
            return 0, self.keys
        visible = mask[:, :, start:stop].any(2).flatten(0, 1).any(0).nonzero()
        return (0, 1) if len(visible) == 0 else (int(visible[0]), int(visible[-1]) + 1)

    def part(self, tensor: Tensor, heads: slice, rows: slice, keys: slice) -> Tensor:
        """A mask or bias for one tile, shaped to broadcast against (folded, group, query, key)."""
        tensor = tensor[:, :, rows if tensor.shape[2] > 1 else slice(None), keys]
        if tensor.shape[1] > 1:
            wide = tensor.expand(self.batch, -1, -1, -1)
            return wide.reshape(self.folded, self.groups, *wide.shape[2:])[heads]
        if tensor.shape[0] == 1:
            return tensor
        wide = tensor.expand(-1, self.kv_heads, -1, -1)
        return wide.reshape(self.folded, 1, *wide.shape[2:])[heads]


class Buffers:
    """Memory of one tile, used again for every tile of a call."""

    def __init__(self, tiles: Tiles, *, full: bool) -> None:
        height, device = min(tiles.block, tiles.rows), tiles.query.device
        size = tiles.chunk * tiles.groups * height * tiles.keys
        self.raw = torch.empty(size, dtype=tiles.dtype, device=device)
        same = tiles.dtype == tiles.wide
        self.scores = self.raw if same else torch.empty(size, dtype=tiles.wide, device=device)
        self.pattern = torch.empty(size, dtype=tiles.wide, device=device)
        self.full = torch.zeros(size, dtype=tiles.wide, device=device) if full else None
        """A tile with every key, for edits."""
        self.future = torch.ones(height, height + tiles.granule, dtype=torch.bool, device=device).triu(1)
