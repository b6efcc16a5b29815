"""Attention that every key has got so far: running column sums of a pattern.

The sums of a layer go through these states, by what the memory of the generation holds:

prompt      rows from position 0 on: everything is forgotten, the sums are those of the rows in hand (`_through`)
decode      one more row, when all rows so far were plain ("plain"): it is added in place (`_simple`)
drafts      rows that may be rolled back are held apart, behind the sums ("drafts", "drafts seen")
settled     the next call tells by its first position which drafts stayed: they are added, the others forgotten
rolled back a position before the sums' own ("next") cannot be taken back: refused
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headwise.errors import FixError
from headwise.layout import ROLES
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context

_ROOM = 256
"""Keys that sums are made longer by when a generation outgrows them."""


class Columns:
    """What the keys of one layer have got from the rows up to those in hand, in some heads.

    Rows of padding count for nothing. Sums are kept in the generation's memory, so that a row decoded alone is judged
    as it would be among all rows. Drafts, which may be rolled back, are kept apart until later calls tell which of
    them stayed.
    """

    def __init__(
        self,
        rows: Float[Tensor, "batch head query key"],
        site: Site,
        context: Context,
        *,
        spare_first: bool = True,
    ) -> None:
        self.context, self.site, self.memory = context, site, context.memory
        self.spare_first = spare_first
        self.batch, self.heads, self.count, self.keys = rows.shape
        valid = context.query_valid
        self.invalid: Tensor | None = None if valid is None else ~valid[:, None, :, None]
        """True on rows of padding."""
        wide = rows.detach().float()
        self.rows = wide if self.invalid is None else wide.masked_fill(self.invalid, 0.0)
        self.visible = context.visible
        """Which keys every row sees: (batch or 1, query, key); None when all see all."""
        self.start = int(context.positions[0])
        if self.start == 0:
            for name in ("got", "seen", "next", "drafts", "drafts seen", "plain", "spared"):
                self.memory.forget((name, site))

    def sinks(
        self, *, alpha: float, tau: float | None, min_rows: int, full: bool
    ) -> Bool[Tensor, "batch head query_or_1 key"]:
        """Keys whose mean exceeds tau, or alpha / n, and that `min_rows` or more rows see.

        n is how many keys the row sees. With `full`, means are over all rows in hand, and one row of sinks stands for
        all. The first token is never a sink; without `spare_first`, the first sink found is none.
        """
        if self._simple():
            return (self._add_row() > self._limit(alpha, tau, min_rows))[:, :, None]
        got, seen = self._through()
        there = self.keys if self.visible is None else self.visible.sum(-1, keepdim=True)[:, None]
        if full:
            got, seen = got[:, :, -1:], seen[:, :, -1:]
            there = there if isinstance(there, int) else there.amax(2, keepdim=True)
        limit = tau if tau is not None else alpha / there
        found = (got > seen * limit) & (seen >= min_rows)
        return found if self.spare_first else found & (found.cumsum(-1) > 1)

    def _simple(self) -> bool:
        """True for a decoded row that sees all keys, after rows of which each saw all keys up to its own."""
        plain = self.count == 1 and self.visible is None and self.invalid is None and self.spare_first
        return (
            plain
            and ("plain", self.site) in self.memory
            and ("drafts", self.site) not in self.memory
            and self.memory.number(("next", self.site)) == self.start
            and not self._drafts()
        )

    def _add_row(self) -> Float[Tensor, "batch head key"]:
        """Sums with the row in hand."""
        got = self._room("got")[..., : self.keys].add_(self.rows[:, :, 0])
        self.memory["next", self.site] = self.start + 1
        return got

    def _limit(self, alpha: float, tau: float | None, min_rows: int) -> Float[Tensor, "1 1 key"]:
        """The sum from which a key is a sink for the row in hand; the same in all such layers, so found once."""
        if "limit at" not in self.memory or self.memory.number("limit at") != self.start:
            seen = self._plainly_seen(self.start + 1)
            limit = seen * (tau if tau is not None else alpha / self.keys)
            self.memory["limit"] = limit.masked_fill(seen < min_rows, torch.inf)
            self.memory["limit at"] = self.start
        return self.memory.of("limit", 1)

    def _plainly_seen(self, rows: int) -> Float[Tensor, "1 1 key"]:
        """How many of the first `rows` rows see every key when each sees those up to its own; first token apart."""
        seen = (rows - torch.arange(self.keys, device=self.rows.device)).clamp_min(0).float()
        seen[0] = -torch.inf
        return seen[None, None]

    def _through(self) -> tuple[Tensor, Tensor]:
        """Sums up to every row in hand (batch, head, query, key), and the rows in them (batch or 1, 1, query, key)."""
        got, seen = self._known()
        drafts = self._drafts()
        sight = self.visible
        if sight is None:
            sight = torch.ones(1, self.count, self.keys, dtype=torch.bool, device=self.rows.device)
        if self.invalid is not None:
            sight = sight & ~self.invalid[:, 0]
        counted = sight.float()[:, None]
        all_got = self.rows.cumsum(2) + got[:, :, None]
        all_seen = counted.cumsum(2) + seen[:, :, None]
        stay = self.count - drafts
        behind = ("drafts", self.site) in self.memory
        if drafts:
            self._hold("drafts", self.rows[:, :, stay:])
            self._hold("drafts seen", counted[:, :, stay:])
        if stay:
            got, seen = all_got[:, :, stay - 1], all_seen[:, :, stay - 1]
        if not behind:  # rows behind others that may be rolled back may be so themselves
            self._keep(got, seen, self.start + stay)
        return all_got, all_seen

    def _known(self) -> tuple[Tensor, Tensor]:
        """Sums before the rows in hand, and the rows in them, for every key there is now."""
        memory, site = self.memory, self.site
        if ("got", site) not in memory:
            if self.start and self.context.run.cached_before:
                raise FixError(
                    "The beginning of this prompt was cached where running means could not see it.",
                    evidence=f"{self.context.run.cached_before} positions",
                    remedy="Patch the model before the prompt is read, and go on with the same cache object.",
                )
            nothing = torch.zeros(self.batch, 1, self.keys, device=self.rows.device)
            self._keep(nothing.expand(-1, self.heads, -1), nothing[:1], self.start)
        self._settle()
        if memory.number(("next", site)) > self.start:
            raise FixError(
                "The cache was rolled back further than running means can follow.",
                evidence=f"position {self.start} comes after position {memory.number(('next', site)) - 1}",
                remedy='Begin the prompt again, or use decode="off".',
            )
        got = self._room("got")[..., : self.keys]
        if ("plain", site) in memory:
            return got, self._plainly_seen(self.start)
        seen = self._spare(self._room("seen"))[..., : self.keys]
        for name in ("drafts", "drafts seen") if ("drafts", site) in memory else ():
            rows = memory.of((name, site), self.batch).sum(2)
            rows = torch.nn.functional.pad(rows, (0, self.keys - rows.shape[-1]))
            got, seen = (got + rows, seen) if name == "drafts" else (got, seen + rows)
        return got, seen

    def _settle(self) -> None:
        """Adds the drafts that stayed to the sums, and forgets those that were rolled back."""
        memory, site = self.memory, self.site
        if ("drafts", site) not in memory:
            return
        reached, run = memory.number(("next", site)), self.context.run
        stayed = min(max(0, self.start - reached), memory.of(("drafts", site), self.batch).shape[2])
        settled = min(stayed, max(0, run.length - run.drafts - reached))
        for name, sums in (("drafts", "got"), ("drafts seen", "seen")):
            rows, before = memory.of((name, site), self.batch), self._room(sums)
            more = rows[:, :, :settled].sum(2)
            memory[sums, site] = before + torch.nn.functional.pad(
                more, (0, before.shape[-1] - more.shape[-1])
            )
            memory.forget((name, site))
            if settled < stayed:
                memory[name, site] = rows[:, :, settled:stayed]
        memory["next", site] = reached + settled
        memory.forget(("plain", site))

    def _hold(self, name: str, rows: Tensor) -> None:
        """Keeps rows apart, behind those that may still be rolled back, too."""
        memory, site = self.memory, self.site
        if (name, site) in memory:
            before = memory.of((name, site), self.batch)
            before = torch.nn.functional.pad(before, (0, self.keys - before.shape[-1]))
            copies = max(len(before), len(rows))
            rows = torch.cat([part.expand(copies, -1, -1, -1) for part in (before, rows)], 2)
        memory[name, site] = rows.clone()

    def _spare(self, seen: Tensor) -> Tensor:
        """The counts with the first token of every example apart, once it was read.

        A key that minus infinity rows have seen is never seen by enough of them.
        """
        memory, site = self.memory, self.site
        if not self.spare_first or ("spared", site) in memory:
            return seen
        first, complete = self._first()
        seen = seen.masked_fill(
            torch.nn.functional.pad(first, (0, seen.shape[-1] - first.shape[-1])), -torch.inf
        )
        seen = seen if len(seen) > 1 and bool((seen != seen[:1]).any()) else seen[:1]
        memory["seen", site] = seen
        if complete:
            memory["spared", site] = 1
        return seen

    def _room(self, name: str) -> Tensor:
        """Sums in the memory, with room for the keys there are now."""
        held = self.memory.of((name, self.site), self.batch)
        if held.shape[-1] < self.keys:
            held = torch.nn.functional.pad(held, (0, self.keys - held.shape[-1] + _ROOM))
            self.memory[name, self.site] = held
        return held

    def _keep(self, got: Tensor, seen: Tensor, reached: int) -> None:
        self.memory["got", self.site] = torch.nn.functional.pad(got, (0, _ROOM))
        self.memory["seen", self.site] = torch.nn.functional.pad(seen, (0, _ROOM))
        self.memory["next", self.site] = reached
        self.memory.forget(("plain", self.site))
        if self.spare_first and self.invalid is None and len(seen) == 1:
            plain = self._plainly_seen(reached)
            if seen.shape[-1] == plain.shape[-1] and torch.equal(seen, plain):
                self.memory["plain", self.site] = 1

    def _drafts(self) -> int:
        """How many of the rows in hand may be rolled back."""
        run = self.context.run
        return max(0, min(self.count, self.start + self.count - (run.length - run.drafts)))

    def _first(self) -> tuple[Bool[Tensor, "batch 1 key"], bool]:
        """True on the first real token of every example that has one so far, and whether all have."""
        context, here = self.context, self.start + self.count
        roles = context.run.axis(context.tower, self.batch, here).roles[:, :here]
        real = roles != ROLES.index("padding")
        first = torch.nn.functional.pad(real & (real.cumsum(-1) == 1), (0, self.keys - here))
        return first[:, None].to(self.rows.device), bool(real.any(-1).all())
