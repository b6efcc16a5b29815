"""Attention in tiles of query rows: statistics and edits without a query-by-key matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import FixError
from headwise.probes.arguments import Call
from headwise.probes.statistics import Places, Statistics, counts_of, finish

Edit = Callable[[Tensor, slice], Tensor]
"""Takes the pattern (batch, head, query, key) of a slice of rows, returns the pattern to use."""

_TILE = 512 * 1024
"""Elements of one tile of scores: 2 MB in float32, so that a tile stays in a core's second-level cache."""
_GRANULE = 256
"""Keys to which tiles in half precision are rounded up: every new width costs a compiled kernel and its memory."""


class _Tiles:
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
        seen = mask[:, :, start:stop].any(2).flatten(0, 1).any(0).nonzero()
        return (0, 1) if len(seen) == 0 else (int(seen[0]), int(seen[-1]) + 1)

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


def attend(
    call: Call,
    places: Places | None = None,
    *,
    edit: Edit | None = None,
    count: tuple[Tensor, Tensor] | None = None,
) -> tuple[Float[Tensor, "batch query head value_width"], Statistics | None]:
    """Per-head outputs of a call, and its statistics when `places` says what rows and keys are.

    One pass over tiles of query rows, chunked over heads to the cache; the memory beyond the outputs does not grow
    with query times key. Sums are float32 or better. With `edit`, every tile carries all heads, its key axis is
    complete (keys after the last row are exact zeros), and the edited rows are used and counted.
    """
    tiles = _Tiles(call, whole=edit is not None)
    folded, groups, rows = tiles.folded, tiles.groups, tiles.rows
    width = tiles.value.shape[-1]
    z = torch.empty(folded, groups, rows, width, dtype=tiles.dtype, device=call.query.device)
    gather = None if places is None else _Gather(tiles, places)
    for first in range(0, folded, tiles.chunk):
        heads = slice(first, min(first + tiles.chunk, folded))
        _attend_heads(tiles, heads, z, gather, edit)
    z = z.view(tiles.batch, tiles.heads, rows, width).transpose(1, 2).contiguous()
    return z, None if gather is None else gather.statistics(count)


def _attend_heads(tiles: _Tiles, heads: slice, z: Tensor, gather: _Gather | None, edit: Edit | None) -> None:
    call, groups, folded = tiles.call, tiles.groups, heads.stop - heads.start
    query = tiles.query[heads] * call.scaling
    key = tiles.key[heads].transpose(1, 2)
    value = tiles.value[heads]
    height = min(tiles.block, tiles.rows)
    size, device = folded * groups * height * tiles.keys, query.device
    raw_buffer = torch.empty(size, dtype=tiles.dtype, device=device)
    buffer = raw_buffer if tiles.dtype == tiles.wide else torch.empty(size, dtype=tiles.wide, device=device)
    pattern_buffer = torch.empty(size, dtype=tiles.wide, device=device)
    full = torch.zeros(size, dtype=tiles.wide, device=device) if edit is not None and call.causal else None
    future = torch.ones(height, height + tiles.granule, dtype=torch.bool, device=device).triu(1)
    for start in range(0, tiles.rows, tiles.block):
        stop = min(start + tiles.block, tiles.rows)
        low, high = tiles.span(start, stop)
        block, span = slice(start, stop), slice(low, high)
        shape = (folded, groups, stop - start, high - low)
        flat = (folded, groups * (stop - start), high - low)
        count = folded * flat[1] * flat[2]
        raw = raw_buffer[:count].view(flat)
        torch.bmm(query[:, :, block].reshape(folded, flat[1], -1), key[:, :, span], out=raw)
        scores = raw if buffer is raw_buffer else buffer[:count].view(flat).copy_(raw)
        scores = _masked(tiles, scores.view(shape), heads, block, span, future)
        pattern = _softmax(tiles, scores, heads, pattern_buffer[:count])
        edited = False
        if edit is not None:
            pattern, edited = _edited(tiles, pattern, scores, edit, block, span, full)
        out = torch.bmm(pattern.view(flat).to(tiles.dtype), value[:, span])
        z[heads, :, block] = out.view(*shape[:3], -1)
        if gather is not None:
            gather.add(heads, block, span, scores, pattern, edited)


def _masked(tiles: _Tiles, scores: Tensor, heads: slice, block: slice, span: slice, future: Tensor) -> Tensor:
    call = tiles.call
    if call.softcap is not None:
        scores.div_(call.softcap).tanh_().mul_(call.softcap)
    if call.bias is not None:
        scores.add_(tiles.part(call.bias, heads, block, span))
    if call.causal:
        beside = scores[..., block.start :]
        beside.masked_fill_(future[: beside.shape[2], : beside.shape[3]], tiles.hidden)
    elif call.mask is not None:
        mask = tiles.part(call.mask, heads, block, span)
        if mask.dtype == torch.bool:
            scores.masked_fill_(~mask, tiles.hidden)
        else:
            scores.add_(mask).clamp_min_(tiles.hidden)
    return scores


def _softmax(tiles: _Tiles, scores: Tensor, heads: slice, buffer: Tensor) -> Tensor:
    pattern = buffer.view(scores.shape)
    if tiles.call.sinks is None:
        return torch.ops.aten._softmax.out(scores, -1, False, out=pattern)
    sinks = tiles.call.sinks.to(tiles.wide).view(1, tiles.kv_heads, tiles.groups, 1, 1)
    sinks = sinks.expand(tiles.batch, -1, -1, -1, -1).reshape(tiles.folded, tiles.groups, 1, 1)[heads]
    top = torch.maximum(scores.amax(-1, keepdim=True), sinks)
    torch.exp(torch.sub(scores, top, out=pattern), out=pattern)
    return pattern.div_(pattern.sum(-1, keepdim=True) + torch.exp(sinks - top))


def _edited(
    tiles: _Tiles, pattern: Tensor, scores: Tensor, edit: Edit, block: slice, span: slice, full: Tensor | None
) -> tuple[Tensor, bool]:
    """The pattern a fix hands back for one tile, checked; the given one when it was left alone."""
    rows = block.stop - block.start
    given = pattern.view(tiles.batch, tiles.heads, rows, -1)
    if full is not None:
        wide = full[: tiles.folded * tiles.groups * rows * tiles.keys].view(
            tiles.batch, tiles.heads, rows, tiles.keys
        )
        wide[..., : span.stop].copy_(given)
        if (
            rows < tiles.block
        ):  # the last tile has other strides: what lies behind its keys was written before
            wide[..., span.stop :].zero_()
        given = wide
    elif span.stop - span.start < tiles.keys:
        given = torch.nn.functional.pad(given, (span.start, tiles.keys - span.stop))
    version = given._version
    new = edit(given, block)
    if new is given and given._version == version:
        return pattern, False
    hidden = scores.view(tiles.batch, tiles.heads, rows, -1) <= tiles.hidden / 2
    check_edit(new, given, outside=_outside(hidden, span, tiles.keys), positions=block)
    new = new[..., span].to(pattern.dtype).contiguous()
    return new.view(pattern.shape), True


def _outside(hidden: Tensor, span: slice, keys: int) -> Tensor:
    blind = hidden.all(-1, keepdim=True)
    wide = torch.nn.functional.pad(hidden, (span.start, keys - span.stop), value=True)
    return wide & ~blind


def check_edit(new: Tensor, old: Tensor, *, outside: Tensor | None, positions: slice) -> None:
    """Refuses an edited pattern of another shape, or one that puts weight on keys a row may not see."""
    if not isinstance(new, Tensor) or new.shape != old.shape:
        shape = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise FixError(
            "A fix returned a pattern of the wrong shape.",
            evidence=f"got {shape}, expected {tuple(old.shape)}",
            remedy="`edit` must return (batch, head, query, key) as it received it.",
        )
    if outside is not None and bool((new.ne(0) & outside).any()):
        where = (new.ne(0) & outside).nonzero()[0].tolist()
        raise FixError(
            "A fix put attention on a key that its row may not see.",
            evidence=f"example {where[0]}, head {where[1]}, row {positions.start + where[2]}, key {where[3]}",
            remedy="Multiply by the pattern's own support, or leave keys with zero attention at zero.",
        )


class _Gather:
    """Collects the statistics of tiles.

    Row entropy is lse - sum(p * s); received mass is a one-row product; mean position and mass per role are products
    with a few columns, where the last role is what remains of the row.
    """

    def __init__(self, tiles: _Tiles, places: Places) -> None:
        self.tiles, self.places = tiles, places
        call, device, wide = tiles.call, tiles.query.device, tiles.wide
        shape = (tiles.folded, tiles.groups, tiles.rows)
        names = ("entropy", "maximum", "lse", "distance")
        self.row = {name: torch.empty(shape, dtype=wide, device=device) for name in names}
        self.mass = torch.empty(*shape, len(places.roles), dtype=wide, device=device)
        self.received = torch.zeros(tiles.folded, tiles.groups, tiles.keys, dtype=wide, device=device)
        self.linear = call.causal and not places.cross
        self.index = torch.arange(tiles.keys, device=device)
        classes = places.classes.to(device, wide)
        if places.key_valid is not None:
            classes = classes * places.key_valid[..., None]
        columns = [classes[..., :-1]]
        if self.linear:
            columns.append((self.index / tiles.keys).to(wide)[None, :, None].expand(len(classes), -1, -1))
        self.columns = torch.cat(columns, -1).transpose(1, 2).contiguous()
        """(example or 1, column, key)."""
        self.weights = torch.ones(1, 1, tiles.rows, dtype=wide, device=device)
        if places.query_valid is not None:
            self.weights = places.query_valid.to(wide)[:, None]

    def add(
        self, heads: slice, block: slice, span: slice, scores: Tensor, pattern: Tensor, edited: bool
    ) -> None:
        """Folds one tile into the sums."""
        folded, groups, rows, keys = pattern.shape
        top = pattern.amax(-1)
        total = pattern.sum(-1) if edited or self.tiles.call.sinks is not None else 1.0
        if edited:
            self.row["lse"][heads, :, block] = torch.nan
            self.row["entropy"][heads, :, block] = torch.special.entr(pattern).sum(-1)
        else:
            lse = scores.amax(-1) - top.log()
            self.row["lse"][heads, :, block] = lse
            self.row["entropy"][heads, :, block] = lse * total - torch.linalg.vecdot(pattern, scores)
        self.row["maximum"][heads, :, block] = top
        weights = self._per_head(self.weights[..., block], heads)
        weights = weights[:, None].expand(folded, groups, 1, rows).reshape(-1, 1, rows)
        received = torch.bmm(weights, pattern.view(-1, rows, keys))
        self.received[heads, :, span] += received.view(folded, groups, keys)
        sums = self._products(pattern, heads, span)
        others = sums[..., : self.columns.shape[1] - self.linear]
        if self.places.roles:
            self.mass[heads, :, block, :-1] = others
            self.mass[heads, :, block, -1] = total - others.sum(-1)
        query = self.places.positions[block].to(pattern.device) - self.places.key_start
        if self.linear:
            self.row["distance"][heads, :, block] = query * total - sums[..., -1] * self.tiles.keys
        elif not self.places.cross:
            apart = (query[:, None] - self.index[span]).abs().to(pattern.dtype)
            self.row["distance"][heads, :, block] = torch.linalg.vecdot(pattern, apart)

    def statistics(self, count: tuple[Tensor, Tensor] | None) -> Statistics:
        """The sums as `Statistics`."""
        tiles = self.tiles
        if count is None:
            count = counts_of(tiles.call, self.places)
        shape = (tiles.batch, tiles.heads)
        row = {name: value.view(*shape, tiles.rows) for name, value in self.row.items()}
        mass = self.mass.view(*shape, tiles.rows, -1)
        return finish(row, mass, self.received.view(*shape, tiles.keys), self.places, count)

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
