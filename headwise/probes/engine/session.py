"""One capture or one patch while it is attached to a model."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import CaptureError
from headwise.probes.attach.sites import AttentionModule, Site
from headwise.probes.fix_plan import plan_fix
from headwise.probes.generation.given import Given
from headwise.probes.generation.tracker import GenerationTracker
from headwise.probes.kernels.statistics import CallLayout
from headwise.probes.selection import NOTHING
from headwise.probes.serving.scopes import Scope
from headwise.probes.trace.buffer import Buffer
from headwise.probes.trace.nonfinite import largest_logit
from headwise.probes.trace.options import CaptureOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Followed(threading.local):
    """How far a session has followed the current thread; the attributes here stand until a forward sets them."""

    tracker: GenerationTracker | None = None
    layer_residual: Tensor | None = None
    """Residual that entered the layer under way."""
    copies = 1
    """Rows of a decoder's batch that stand for one example, in the forward under way."""


class Session:
    """Capture or patch of a model: records to keep, fixes to run.

    A capture belongs to the thread that opened it: what other threads do with the model is not recorded. A patch
    changes the model for every thread, or for its own context alone; each thread's generations are followed on their
    own.
    """

    compares = False
    """True where the model's own kernel is to run beside the engine."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        language: str,
        *,
        fixes: tuple[Any, ...] = (),
        options: CaptureOptions | None = None,
        examples: tuple[int, ...] | None = None,
        projections: Mapping[Site, Tensor] | None = None,
    ) -> None:
        self.fixes = fixes
        self.plans = tuple(map(plan_fix, fixes))
        self.examples = examples
        """The only examples of a batch that the fixes are for."""
        self.needs_residual = any(plan.needs_residual for plan in self.plans)
        self.processor = processor
        self.options = options or CaptureOptions(stats=NOTHING)
        self.projections = projections or {}
        """W_O of sites per head, compact, for a capture of norms."""
        self.watches = options is not None
        self.opener = threading.get_ident()
        self.thread = self.opener if self.watches else None
        self.scope: Scope | None = None
        """Scope of a patch of one thread alone; None for one that acts on every thread, and for a capture."""
        self.finishing = False
        """True once it is removed: it acts on prompts that it acted on before, and on no others."""
        self.ran = False
        """True once the model has run; known when the session has ended."""
        self.acting_fixes: list[Any] = []
        """Of a capture: the fixes of patches that acted on a forward that it has seen."""
        self.largest_logits: list[Tensor] = []
        """Of every example at the last position of each forward."""
        self.given: Given = {}
        """What the prompts were given beside their ids; known when the session has ended."""
        self.unplaced = False
        """True once a left-padded prompt came without positions."""
        self.remarks: list[str] = []
        """Remarks for a reader of the records; known when the session has ended."""
        self._kept_bytes = 0
        self.followed = _Followed()
        self._make_tracker = partial(GenerationTracker, model, processor, language, keep=self.watches)
        self.trackers: list[GenerationTracker] = []

    def confine(self) -> None:
        """Makes this a session of the current thread alone."""
        self.scope = Scope()

    def listens(self) -> bool:
        """True when this session concerns the current thread, in its current context."""
        if self.scope is not None:
            return self.scope.holds()
        return self.belongs_here()

    def acts_on_new_prompt(self) -> bool:
        """True when this session acts on a prompt that the current thread begins.

        Raises:
            FixError: that cannot be told.
        """
        if self.finishing or not self.listens():
            return False
        if self.scope is not None:
            self.scope.require_clear()
        return True

    def belongs_here(self) -> bool:
        """False for a capture that another thread has opened."""
        return self.thread is None or self.thread == threading.get_ident()

    def concerns(self, entry: AttentionModule, language: str) -> bool:
        """True when this session keeps records of an attention module, or has a fix for it."""
        sites = [entry.site(call) for call in range(len(entry.layers))]
        return self.watches or any(
            plan.touches(site, language) for plan in self.plans if not plan.neutral for site in sites
        )

    def tracker(self) -> GenerationTracker:
        """The tracker of the current thread."""
        tracker = self.followed.tracker
        if tracker is None:
            tracker = self.followed.tracker = self._make_tracker()
            if self.watches:
                self.trackers.append(tracker)
        return tracker

    def note_fixes(self, acting: Iterable[Session]) -> None:
        """A capture sees a forward on which these sessions act."""
        for plan in (plan for other in acting for plan in other.plans) if self.watches else ():
            if not plan.neutral and not any(plan.fix is known for known in self.acting_fixes):
                self.acting_fixes.append(plan.fix)

    def leave(self, output: Any, cache: Any) -> None:
        """The forward that began last has ended with `output`, and handed out `cache`."""
        if cache is not None:
            self.tracker().leave(cache)
        top = largest_logit(output) if self.watches else None
        if top is not None:
            self.largest_logits.append(top)

    def snapshot(self) -> dict[str, Any]:
        """State of this session in the current thread's forward, as it is now."""
        return {**vars(self.followed), "tracker": self.tracker().snapshot()}

    def replace_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Takes the current thread for one that is as far as `state` says; returns how far it was."""
        before = dict(vars(self.followed))
        vars(self.followed).clear()
        vars(self.followed).update(state)
        return before

    def buffer(self, site: Site) -> Buffer:
        """The records of a site in the current run."""
        run = self.tracker().run
        assert run is not None
        if site.tower != run.language and run.readings and run.read.get(site) != run.readings:
            run.buffers.pop(site, None)  # a picture that is read again with every word
            run.read[site] = run.readings
        return run.buffers.setdefault(site, Buffer())

    def row_index(self, tower: str, layout: CallLayout) -> Tensor:
        """Rows of a call that this session keeps, counted within the call."""
        n_prompt = self.tracker().current.n_prompt_positions(tower)
        wanted = [row if row >= 0 else n_prompt + row for row in self.options.rows or ()]
        at = torch.tensor(wanted, dtype=torch.long, device=layout.positions.device)
        return torch.isin(layout.positions, at).nonzero()[:, 0]

    def charge(self, site: Site, pattern: Tensor, keys: int | None = None) -> None:
        """Counts the bytes of a pattern that is kept, perhaps filled up to `keys`, and refuses more than the limit."""
        filled = 1 if keys is None else keys / pattern.shape[-1]
        self._kept_bytes += int(pattern.numel() * pattern.element_size() * filled)
        if self._kept_bytes > self.options.map_limit:
            self._refuse(f"{site} brought them to {_size(self._kept_bytes)}")

    def forecast(
        self, site: Site, shape: tuple[int, int, int, int], size: int, modules: Iterable[AttentionModule]
    ) -> None:
        """Refuses before any pattern is made when those of all sites of a tower and kind would not fit.

        Once per run, at the first such site; what is kept already counts.
        """
        tower_kind, run = (site.tower, site.kind), self.tracker().current
        if tower_kind in run.forecast:
            return
        run.forecast.add(tower_kind)
        batch, heads, rows, keys = shape
        alike = [entry for entry in modules if (entry.tower, entry.kind) == tower_kind]
        sites = [entry.site(layer if entry.shared else 0) for entry in alike for layer in entry.layers]
        n_heads = [
            own.count(heads) for own in (self.options.at(other).maps for other in sites) if own is not None
        ]
        total = batch * sum(n_heads) * rows * keys * size
        if self._kept_bytes + total > self.options.map_limit:
            of_each = (
                f"{n_heads[0]} heads" if len(set(n_heads)) == 1 else f"{min(n_heads)} to {max(n_heads)} heads"
            )
            needed = f"{len(n_heads)} sites x {batch} examples x {of_each} x {rows} x {keys} positions"
            before = f", beside {_size(self._kept_bytes)} kept so far" if self._kept_bytes else ""
            self._refuse(f"{needed} = {_size(total)}{before}")

    def _refuse(self, evidence: str) -> None:
        raise CaptureError(
            f"maps={self.options.maps!r} would keep more attention patterns than map_limit allows "
            f"({_size(self.options.map_limit)}).",
            evidence=evidence,
            remedy="Use stats=True (no patterns are kept), rows=[...] for some rows, maps= or sites= for some sites "
            "and heads, a shorter input, or a larger map_limit.",
        )


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1024 and unit < 4:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"
