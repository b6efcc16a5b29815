"""Mean attention that every key has got so far: running column statistics of a pattern."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.errors import FixError
from headwise.layout import ROLES
from headwise.probes.context import Context
from headwise.probes.memory import Memory
from headwise.probes.sites import Site


class Columns:
    """What the keys of one layer have got from the rows up to those in hand, in some heads.

    Rows of padding count for nothing. What was seen is kept in the generation's memory, so that a row decoded alone
    is judged as it would be among all rows. Drafts, which may be rolled back, are remembered apart until the next
    call tells which of them stayed.
    """

    def __init__(self, rows: Float[Tensor, "batch head query key"], site: Site, context: Context) -> None:
        self.context, self.site, self.memory = context, site, context.memory
        self.batch, self.heads, self.count, self.keys = rows.shape
        valid = context.query_valid
        self.invalid: Tensor | None = None if valid is None else ~valid[:, None, :, None]
        self.rows = rows.float() if self.invalid is None else rows.float().masked_fill(self.invalid, 0.0)
        self.start = int(context.positions[0])
        if self.start == 0:
            self._forget()
        self.before, self.seen_before = self._known()
        seen = context.visible
        if seen is None:
            seen = torch.ones(1, 1, self.keys, dtype=torch.bool, device=rows.device)
            seen = seen.expand(-1, self.count, -1)
        self.visible = seen
        """Which keys every row sees: (batch or 1, query, key)."""
        self.counted = seen if valid is None else seen & valid[..., None]

    def sinks(
        self, *, alpha: float, tau: float | None, min_rows: int, full: bool, spare_first_found: bool
    ) -> Bool[Tensor, "batch head query_or_1 key"]:
        """Keys whose mean exceeds tau, or alpha / n, among rows that `min_rows` or more see; never the first token.

        With `full`, means are over all rows in hand, and one row of sinks stands for all.
        """
        got, seen = self.rows, self.counted.float()
        if full:
            got, seen = got.sum(2, keepdim=True), seen.sum(1, keepdim=True)
        elif self.count > 1:
            got, seen = got.cumsum(2), seen.cumsum(1)
        got, seen = got + self.before[:, :, None], (seen + self.seen_before[:, None])[:, None]
        if tau is None:
            there = self.visible.sum(-1, keepdim=True)
            if full:
                there = there.amax(1, keepdim=True)
            limit = seen * (alpha / there.clamp_min(1))[:, None]
        else:
            limit = seen * tau
        found = (got > limit) & (seen >= min_rows)
        if spare_first_found:
            return found & (found.cumsum(-1) > 1)
        return found & ~self._first()[:, None, None]

    def keep(self) -> None:
        """Remembers what the rows in hand gave."""
        got, seen, drafts = self.rows, self.counted, self._drafts()
        if drafts:
            self.memory["draft rows", self.site] = got[:, :, -drafts:].clone()
            self.memory["draft sight", self.site] = seen[:, -drafts:].clone()
            got, seen = got[:, :, :-drafts], seen[:, :-drafts]
        self.memory["got", self.site] = self.before + got.sum(2)
        self.memory["seen", self.site] = self.seen_before + seen.sum(1)
        self.memory["next", self.site] = torch.tensor([self.start + self.count - drafts])

    def _drafts(self) -> int:
        run = self.context.run
        return max(0, min(run.drafts, self.start + self.count - (run.length - run.drafts)))

    def _known(self) -> tuple[Tensor, Tensor]:
        """Sums and numbers of rows before those in hand, for every key there is now."""
        memory, site = self.memory, self.site
        device = self.rows.device
        if ("got", site) not in memory:
            nothing = torch.zeros(1, 1, self.keys, device=device)
            return nothing, nothing[:, 0]
        got, seen = memory.of(("got", site), self.batch), memory.of(("seen", site), self.batch)
        reached = int(memory.of(("next", site), 1)[0])
        if ("draft rows", site) in memory:
            rows = memory.of(("draft rows", site), self.batch)
            sight = memory.of(("draft sight", site), self.batch)
            stayed = min(max(0, self.start - reached), rows.shape[2])
            if stayed:
                got = _wider(got, rows.shape[-1]) + rows[:, :, :stayed].sum(2)
                seen = _wider(seen, sight.shape[-1]) + sight[:, :stayed].sum(1)
            reached += stayed
            del memory["draft rows", site], memory["draft sight", site]
        if reached != self.start:
            raise FixError(
                "The cache was rolled back further than running means can follow.",
                evidence=f"position {self.start} comes after position {reached - 1}",
                remedy='Begin the prompt again, or use decode="off".',
            )
        return _wider(got, self.keys), _wider(seen, self.keys)

    def _forget(self) -> None:
        for name in ("got", "seen", "next", "draft rows", "draft sight"):
            if (name, self.site) in self.memory:
                del self.memory[name, self.site]

    def _first(self) -> Bool[Tensor, "batch key"]:
        """True on the first real token of every example."""
        return first_tokens(self.context, self.memory, self.batch, self.keys, self.rows.device)


def first_tokens(
    context: Context, memory: Memory, batch: int, keys: int, device: torch.device
) -> Bool[Tensor, "batch key"]:
    """True on the first real token of every example."""
    if "first" not in memory:
        roles = context.run.axis(context.stack, batch, context.prompt).roles[:, : context.prompt]
        memory["first"] = (roles != ROLES.index("padding")).int().argmax(-1).to(device)
    first = memory.of("first", batch)
    return torch.arange(keys, device=device) == first[:, None]


def _wider(value: Tensor, keys: int) -> Tensor:
    return torch.nn.functional.pad(value, (0, keys - value.shape[-1]))
