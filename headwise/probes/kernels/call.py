"""One attention call with its arguments brought to a common form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from headwise.probes.kernels.windows import Window


@dataclass(frozen=True)
class Call:
    """Attention call: softmax(scaled, capped, biased, masked scores) times values.

    Shapes: query (batch, head, query, width), key (batch, kv_head, key, width), value (batch, kv_head, key,
    value_width). Heads of a group share one key head: query head h reads key head h // (head / kv_head).
    """

    query: Float[Tensor, "batch head query width"]
    key: Float[Tensor, "batch kv_head key width"]
    value: Float[Tensor, "batch kv_head key value_width"]
    scaling: float
    mask: Tensor | None = None
    """Bool (True = visible) or additive float, broadcastable to (batch, head, query, key)."""
    bias: Tensor | None = None
    """Additive position bias, broadcastable to (batch, head, query, key)."""
    causal: bool = False
    """True when row i sees keys 0..i and `mask` does not say so already."""
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = None
    """One extra logit per head that takes part in the softmax and is then dropped."""
    dropout: float = 0.0
    window: Window | None = None
    """The rows that the call has among those of its module; None where it has all."""

    @property
    def groups(self) -> int:
        """Query heads per key head."""
        return self.query.shape[1] // self.key.shape[1]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(batch, head, query, key)."""
        batch, heads, rows, _ = self.query.shape
        return batch, heads, rows, self.key.shape[2]

    def detach(self) -> Call:
        """The same call outside any gradient graph."""
        parts = {
            name: value.detach()
            for name in ("query", "key", "value", "mask", "bias", "sinks")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **parts)

    def rows(self, index: Tensor) -> Call:
        """The same call for some of its query rows, `index` counting within this call."""
        mask, bias = _take_rows(self.mask, index), _take_rows(self.bias, index)
        if self.causal:
            keys = torch.arange(self.key.shape[2], device=index.device)
            mask = (keys <= index[:, None])[None, None]
        return replace(self, query=self.query[:, :, index], mask=mask, bias=bias, causal=False)

    def crop(self, keys: int) -> Call:
        """The same call on its first `keys` keys (a static cache holds unfilled ones behind them)."""
        mask, bias = self.mask, self.bias
        return replace(
            self,
            key=self.key[:, :, :keys],
            value=self.value[:, :, :keys],
            mask=None if mask is None else mask[..., :keys],
            bias=None if bias is None else bias[..., :keys],
        )


def normalise(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    masked: bool,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    softcap: float | None = None,
    position_bias: Tensor | None = None,
    sinks: Tensor | None = None,
) -> Call:
    """The arguments of a transformers attention function as a `Call`.

    A missing scaling is width**-0.5. What a missing mask means depends on the implementation: to eager attention
    (`masked`) it means that every row sees every key. `sdpa_attention_forward` takes such a call for a causal one,
    aligned to the upper left, when the module says so and there is more than one row; on a static cache it then
    uses the first keys alone.
    """
    if query.shape[0] == 1 and key.shape[0] > 1:
        query = query.expand(key.shape[0], -1, -1, -1)
    rows, keys = query.shape[2], key.shape[2]
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal = attention_mask is None and not masked and rows > 1 and bool(is_causal)
    if attention_mask is not None and attention_mask.shape[-1] > keys:
        attention_mask = attention_mask[..., :keys]
    call = Call(
        query=query,
        key=key,
        value=value,
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        mask=attention_mask,
        bias=position_bias,
        causal=causal,
        softcap=softcap,
        sinks=None if sinks is None else sinks.reshape(-1),
        dropout=dropout,
    )
    return call.crop(rows) if causal and keys > rows else call


def visible_keys(call: Call, block: slice = slice(None)) -> Bool[Tensor, "batch_or_1 query key"] | None:
    """Keys that each row (of a block of rows) may see, from the mask alone; None when every row sees every key.

    A mask that differs between heads (a position bias passed as mask) counts a key as visible when any head sees it.
    """
    rows = torch.arange(call.query.shape[2], device=call.query.device)[block]
    if call.causal:
        keys = torch.arange(call.key.shape[2], device=call.query.device)
        return (keys <= rows[:, None])[None]
    if call.mask is None:
        return None
    mask = call.mask if call.mask.shape[2] == 1 else call.mask[:, :, block]
    mask = lets_see(mask)
    mask = mask.any(1) if mask.shape[1] > 1 else mask[:, 0]
    return mask.expand(-1, len(rows), -1)


def hidden(
    visibility: Bool[Tensor, "batch_or_1 query key"] | None,
) -> Bool[Tensor, "batch_or_1 1 query key"] | None:
    """True where a row may not see a key; rows that see nothing are left out."""
    return None if visibility is None else (~visibility & visibility.any(-1, keepdim=True))[:, None]


def lets_see(mask: Tensor) -> Bool[Tensor, "*shape"]:
    """A bool or additive mask as True where it lets a row see a key."""
    return (
        mask if mask.dtype == torch.bool else ~(mask <= torch.finfo(mask.dtype).min / 2)
    )  # NaN hides nothing


def _take_rows(tensor: Tensor | None, index: Tensor) -> Tensor | None:
    if tensor is None or tensor.shape[2] == 1:
        return tensor
    return tensor[:, :, index]
