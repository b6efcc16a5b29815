"""The tokens of the input with the attention they receive."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float

from headwise.layout import ROLES, Axis
from headwise.probes.frames import labels, statistics
from headwise.reports.content import Example, Token
from headwise.reports.maps import mean_received

if TYPE_CHECKING:
    from headwise.probes.trace import Trace

MOST_EXAMPLES, MOST_TOKENS = 16, 1024


def examples_of(trace: Trace) -> tuple[Example, ...]:
    """The examples of every stack that reads tokens, with the self-attention that each token receives."""
    shown = []
    for stack, axis in trace.layout.axes.items():
        shares = _received(trace, stack, axis)
        texts, _ = labels(axis, *axis.roles.shape)
        if shares is None or all(text is None for text in texts.flat):
            continue
        for number in range(min(len(axis.roles), MOST_EXAMPLES)):
            tokens = _tokens(axis, number, texts[number], shares[number])
            label = f"Example {number}" if stack == "text" else f"Example {number}, {stack}"
            left_out = max(len(tokens) - MOST_TOKENS, 0)
            shown.append(Example(label, tuple(tokens[:MOST_TOKENS]), left_out))
    return tuple(shown)


def _received(trace: Trace, stack: str, axis: Axis) -> Float[torch.Tensor, "example position"] | None:
    """Mean over the heads of all self-attention sites of the stack; NaN where too few rows see the key."""
    means = [
        mean_received(record).mean(1)
        for site, record in statistics(trace).items()
        if site.stack == stack and site.kind == "self" and record["seen"].shape == axis.roles.shape
    ]
    return torch.stack(means).nanmean(0) if means else None


def _tokens(axis: Axis, example: int, texts: list[str | None], shares: torch.Tensor) -> list[Token]:
    """Padding is dropped; a run of image or audio positions becomes one token that carries their mean."""
    roles = [ROLES[role] for role in axis.roles[example].tolist()]
    tokens = []
    for role, run in groupby(range(len(roles)), key=lambda position: roles[position]):
        positions = list(run)
        if role == "padding":
            continue
        if role in ("image", "audio") and len(positions) > 1:
            share = shares[positions].nanmean().item()
            tokens.append(Token(positions[0], f"{role} × {len(positions)}", role, _known(share)))
            continue
        for position in positions:
            text = texts[position] or ""
            tokens.append(Token(position, text, role, _known(shares[position].item())))
    return tokens


def _known(share: float) -> float | None:
    return share if share == share else None
