"""Options of a capture: what is kept of which site."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields

from headwise.errors import InputError
from headwise.probes.attach.sites import AttentionModule, Site
from headwise.probes.kernels.details import NO_DETAILS, Details
from headwise.probes.selection import EVERYTHING, NOTHING, Heads, Selection


@dataclass(frozen=True)
class Keep:
    """Heads of one site that a capture keeps, by kind of record; None for nothing."""

    stats: Heads | None = None
    maps: Heads | None = None
    rows: Heads | None = None
    qkv: Heads | None = None
    z: Heads | None = None
    norms: Heads | None = None
    gradients: bool = False
    details: Details = NO_DETAILS
    """What is kept beside the statistics."""

    def __bool__(self) -> bool:
        return self.gradients or any((self.stats, self.maps, self.rows, self.qkv, self.z, self.norms))


@dataclass(frozen=True)
class CaptureOptions:
    """Options of a capture: what it is asked to keep."""

    stats: Selection = EVERYTHING
    maps: Selection = NOTHING
    rows: tuple[int, ...] | None = None
    """Absolute positions of the rows whose pattern is kept; negative ones count from the end of the prompt."""
    qkv: Selection = NOTHING
    heads: Selection = NOTHING
    residual: Selection = NOTHING
    norms: Selection = NOTHING
    gradients: bool = False
    map_limit: int = 4 * 2**30
    """Largest number of bytes of patterns to keep."""
    sites: Selection = EVERYTHING
    """Nothing is kept of any other site."""
    details: Details = NO_DETAILS
    """What the statistics hold beside the usual."""

    @property
    def selections(self) -> dict[str, Selection]:
        """The options that name sites."""
        names = ("stats", "maps", "qkv", "heads", "residual", "norms", "sites")
        return {name: getattr(self, name) for name in names}

    def at(self, site: Site) -> Keep:
        """Heads that are kept of a site."""
        among = self.sites.heads(site)
        if among is None:
            return Keep()

        def chosen(selection: Selection) -> Heads | None:
            heads = selection.heads(site)
            return None if heads is None else heads.both(among)

        stats, maps = chosen(self.stats), chosen(self.maps)
        rows = among if self.rows is not None and maps is None else None
        return Keep(
            stats,
            maps,
            rows,
            chosen(self.qkv),
            chosen(self.heads),
            chosen(self.norms),
            gradients=self.gradients,
            details=self.details if stats is not None else NO_DETAILS,
        )

    def keeps_residual(self, tower: str, layer: int) -> bool:
        """True where the residual that enters a layer is kept; it belongs to a layer, whatever the kind."""
        return self.residual.covers(tower, layer) and self.sites.covers(tower, layer)

    def check(self, modules: Collection[AttentionModule]) -> None:
        """Refuses a capture of nothing, heads of gradients, and sites that the model does not have."""
        kept = (
            self.stats,
            self.maps,
            self.rows,
            self.qkv,
            self.heads,
            self.residual,
            self.norms,
            self.gradients,
        )
        if not any(kept) or not self.sites:
            raise InputError(
                "Nothing to capture.", remedy="Ask for stats, maps, rows, qkv, heads, residual or norms."
            )
        if self.gradients and any(selection.names_heads for selection in self.selections.values()):
            raise InputError(
                "Gradients are those of whole patterns, so heads cannot be chosen.",
                evidence=self.call,
                remedy="Choose towers, kinds and layers, and take the heads from trace.map_gradients.",
            )
        if self.details and not self.stats:
            raise InputError(
                "near, top and later are kept beside the statistics.",
                evidence=self.call,
                remedy="Leave out stats=False.",
            )
        for name, selection in self.selections.items():
            selection.check(name, modules)

    @property
    def call(self) -> str:
        """The call of `capture` that has these options."""
        own = [(self, f) for f in fields(self) if f.name != "details"]
        every = own + [(self.details, f) for f in fields(self.details)]
        shown = [f"{f.name}={value!r}" for part, f in every if (value := getattr(part, f.name)) != f.default]
        return f"hw.capture({', '.join(['subject', *shown])})"

    @property
    def partial(self) -> str:
        """The choice of sites that the statistics are of; empty when they are of all."""
        chosen = {"stats": self.stats, "sites": self.sites}
        return ", ".join(
            f"{name}={value!r}" for name, value in chosen.items() if value and value != EVERYTHING
        )


def row_positions(rows: Sequence[int] | None) -> tuple[int, ...] | None:
    """The value of `rows=`, checked.

    Raises:
        InputError: it is no list of numbers.
    """
    listed = rows is None or (isinstance(rows, Iterable) and not isinstance(rows, str))
    if not listed or not all(isinstance(row, int) for row in rows or ()):
        raise InputError(
            "rows must be a list of positions.", evidence=f"got {rows!r}", remedy="For example rows=[0, -1]."
        )
    return None if rows is None else tuple(rows)
