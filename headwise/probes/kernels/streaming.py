"""Attention in tiles of query rows: statistics and edits without a query-by-key matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import FixError
from headwise.probes.kernels.call import Call
from headwise.probes.kernels.gather import Gather
from headwise.probes.kernels.statistics import CallLayout, Statistics
from headwise.probes.kernels.tiles import Buffers, Tiles

Edit = Callable[[Tensor, slice], Tensor]
"""Takes the pattern (batch, head, query, key) of a slice of rows, returns the pattern to use."""


def attend(
    call: Call,
    layout: CallLayout | None = None,
    *,
    edit: Edit | None = None,
    count: tuple[Tensor, Tensor] | None = None,
) -> tuple[Float[Tensor, "batch query head value_width"], Statistics | None]:
    """Per-head outputs of a call, and its statistics when `layout` says what rows and keys are.

    One pass over tiles of query rows, chunked over heads to the cache; the memory beyond the outputs does not grow
    with query times key. Sums are float32 or better. With `edit`, every tile carries all heads, its key axis is
    complete (keys after the last row are exact zeros), and the edited rows are used and counted.
    """
    tiles = Tiles(call, whole=edit is not None)
    folded, groups, rows = tiles.folded, tiles.groups, tiles.rows
    width = tiles.value.shape[-1]
    z = torch.empty(folded, groups, rows, width, dtype=tiles.dtype, device=call.query.device)
    gather = None if layout is None else Gather(tiles, layout)
    buffers = Buffers(tiles, full=edit is not None and call.causal)
    for first in range(0, folded, tiles.chunk):
        heads = slice(first, min(first + tiles.chunk, folded))
        _attend_heads(tiles, heads, z, buffers, gather, edit)
    z = z.view(tiles.batch, tiles.heads, rows, width).transpose(1, 2).contiguous()
    return z, None if gather is None else gather.statistics(count)


def _attend_heads(
    tiles: Tiles, heads: slice, z: Tensor, buffers: Buffers, gather: Gather | None, edit: Edit | None
) -> None:
    groups, folded = tiles.groups, heads.stop - heads.start
    query = tiles.query[heads] * tiles.call.scaling
    key = tiles.key[heads].transpose(1, 2).contiguous()  # models hand over strided views, slow to read again
    value = tiles.value[heads].contiguous()
    for start in range(0, tiles.rows, tiles.block):
        stop = min(start + tiles.block, tiles.rows)
        low, high = tiles.span(start, stop)
        block, span = slice(start, stop), slice(low, high)
        shape = (folded, groups, stop - start, high - low)
        flat = (folded, groups * (stop - start), high - low)
        count = folded * flat[1] * flat[2]
        raw = buffers.raw[:count].view(flat)
        torch.bmm(query[:, :, block].reshape(folded, flat[1], -1), key[:, :, span], out=raw)
        same = buffers.scores is buffers.raw
        scores = raw if same else buffers.scores[:count].view(flat).copy_(raw)
        scores = _masked(tiles, scores.view(shape), heads, block, span, buffers.future)
        pattern = _softmax(tiles, scores, heads, buffers.pattern[:count])
        edited = False
        if edit is not None:
            pattern, edited = _edited(tiles, pattern, scores, edit, block, span, buffers.full)
        out = torch.bmm(pattern.view(flat).to(tiles.dtype), value[:, span])
        z[heads, :, block] = out.view(*shape[:3], -1)
        if gather is not None:
            gather.add(heads, block, span, scores, pattern, edited)


def _masked(tiles: Tiles, scores: Tensor, heads: slice, block: slice, span: slice, future: Tensor) -> Tensor:
    call = tiles.call
    if call.softcap is not None:
        scores.div_(call.softcap).tanh_().mul_(call.softcap)
    if call.bias is not None:
        scores.add_(tiles.part(call.bias, heads, block, span))
    if call.causal:
        diagonal = scores[..., block.start :]
        diagonal.masked_fill_(future[: diagonal.shape[2], : diagonal.shape[3]], tiles.hidden)
    elif call.mask is not None:
        mask = tiles.part(call.mask, heads, block, span)
        if mask.dtype == torch.bool:
            scores.masked_fill_(~mask, tiles.hidden)
        else:
            scores.add_(mask).clamp_min_(tiles.hidden)
    return scores


def _softmax(tiles: Tiles, scores: Tensor, heads: slice, buffer: Tensor) -> Tensor:
    pattern = buffer.view(scores.shape)
    if tiles.call.sinks is None:
        return torch.ops.aten._softmax.out(scores, -1, False, out=pattern)
    sinks = tiles.call.sinks.to(tiles.wide).view(1, tiles.kv_heads, tiles.groups, 1, 1)
    sinks = sinks.expand(tiles.batch, -1, -1, -1, -1).reshape(tiles.folded, tiles.groups, 1, 1)[heads]
    top = torch.maximum(scores.amax(-1, keepdim=True), sinks)
    torch.exp(torch.sub(scores, top, out=pattern), out=pattern)
    return pattern.div_(pattern.sum(-1, keepdim=True) + torch.exp(sinks - top))


def _edited(
    tiles: Tiles, pattern: Tensor, scores: Tensor, edit: Edit, block: slice, span: slice, full: Tensor | None
) -> tuple[Tensor, bool]:
    """The pattern a fix hands back for one tile, checked; that of the tile when it was left alone."""
    rows = block.stop - block.start
    every_key = pattern.view(tiles.batch, tiles.heads, rows, -1)
    if full is not None:
        shape = (tiles.batch, tiles.heads, rows, tiles.keys)
        wide = full[: tiles.folded * tiles.groups * rows * tiles.keys].view(shape)
        wide[..., : span.stop].copy_(every_key)
        if rows < tiles.block:  # the last tile has other strides: behind its keys was written before
            wide[..., span.stop :].zero_()
        every_key = wide
    elif span.stop - span.start < tiles.keys:
        every_key = torch.nn.functional.pad(every_key, (span.start, tiles.keys - span.stop))
    same = untouched(every_key)
    new = edit(every_key, block)
    if same(new):
        return pattern, False
    hidden = scores.view(tiles.batch, tiles.heads, rows, -1) <= tiles.hidden / 2
    blind = hidden.all(-1, keepdim=True)
    outside = torch.nn.functional.pad(hidden, (span.start, tiles.keys - span.stop), value=True) & ~blind
    check_edit(new, every_key, outside=outside, first_row=block.start)
    new = new[..., span].to(pattern.dtype).contiguous()
    return new.view(pattern.shape), True


def check_edit(
    new: Tensor, old: Tensor, *, outside: Tensor | None = None, first_row: int | Tensor = 0
) -> None:
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
            evidence=f"example {where[0]}, head {where[1]}, row {int(first_row) + where[2]}, key {where[3]}",
            remedy="Multiply by the pattern's own support, or leave keys with zero attention at zero.",
        )


def untouched(tensor: Tensor) -> Callable[[Tensor], bool]:
    """A question for after the edit: is this the very tensor, as it was?

    Tensors of `torch.inference_mode` count no versions: there the values are compared.

    Example:
        >>> tensor = torch.zeros(2)
        >>> same = untouched(tensor)
        >>> same(tensor), same(tensor.add_(1))
        (True, False)
    """
    if tensor.is_inference():
        copy = tensor.clone()
        return lambda new: new is tensor and torch.equal(new, copy)
    version = tensor._version
    return lambda new: new is tensor and new._version == version
