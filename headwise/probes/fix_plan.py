"""The steps and attributes of a fix, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from headwise.probes.attach.sites import Site

STEPS = ("edit", "scale", "edit_qkv", "edit_residual")
"""Methods by which an object is a fix, see `headwise.probes.context.Fix`."""


@dataclass(frozen=True)
class FixPlan:
    """Plan of one fix, what it does and where: everything optional of the protocol, with its default.

    A fix is a value, so that this holds for as long as it is installed. Where an attribute is explained here by its
    name alone, the protocol has the sentence.
    """

    fix: Any
    steps: tuple[str, ...]
    """Steps that it has and wants to run."""
    has_begin: bool
    """True for a fix with `begin`."""
    names_rows: bool
    """True for a fix with `rows`."""
    neutral: bool
    tower: str | None
    kind: str
    layers: Sequence[int] | None
    heads: Sequence[tuple[int, int]] | None
    """(layer, head) pairs; None for a fix that names none, or numbers of heads of its one layer."""
    needs: frozenset[str]
    """What a prompt must hold, such as "image"."""
    needs_all_rows: bool
    needs_residual: bool
    residual_in_prompt_only: bool
    leaks_future: bool
    linear: bool
    piecewise: bool
    name: str = field(default="")
    """For messages."""

    @cached_property
    def edits_residual(self) -> bool:
        """True for a fix that is shown the residual."""
        return "edit_residual" in self.steps and not self.neutral

    def touches(self, site: Site, language: str) -> bool:
        """True when the fix acts on a site; `language` is the tower of a fix without one."""
        if site.tower != (self.tower or language) or site.kind != self.kind:
            return False
        if self.layers is not None and site.layer not in self.layers:
            return False
        return self.heads is None or any(layer == site.layer for layer, _ in self.heads)


def plan_fix(fix: Any) -> FixPlan:
    """The plan of a fix.

    Example:
        >>> from headwise.fixes import ScaleHeads
        >>> plan = plan_fix(ScaleHeads(heads=((2, 0),), factor=0.5))
        >>> plan.steps, plan.neutral, plan.heads
        (('scale',), False, ((2, 0),))
    """
    wanted = getattr(fix, "steps", STEPS)
    leaks, has_begin = bool(getattr(fix, "leaks_future", False)), hasattr(fix, "begin")
    return FixPlan(
        fix=fix,
        steps=tuple(step for step in wanted if hasattr(fix, step)),
        has_begin=has_begin,
        names_rows=hasattr(fix, "rows"),
        neutral=bool(getattr(fix, "neutral", False)),
        tower=getattr(fix, "tower", None),
        kind=getattr(fix, "kind", "self"),
        layers=getattr(fix, "layers", None),
        heads=getattr(fix, "heads", None) if getattr(fix, "layer", None) is None else None,
        needs=frozenset(getattr(fix, "needs", ())),
        needs_all_rows=bool(getattr(fix, "needs_all_rows", False)),
        needs_residual=bool(getattr(fix, "needs_residual", False)),
        residual_in_prompt_only=bool(getattr(fix, "residual_in_prompt_only", False)),
        leaks_future=leaks,
        linear=bool(getattr(fix, "linear", False)),
        piecewise=bool(getattr(fix, "piecewise", not (has_begin or leaks))),
        name=type(fix).__name__,
    )
