"""What a report page says of heads in words: one word per head, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WordCell:
    """One head."""

    place: int
    """Of its word among those of the map."""
    evidence: str
    address: str
    """Of the head on the page."""


@dataclass(frozen=True, eq=False)
class WordPanel:
    """The heads of one tower and kind, layers down, heads across; None where nothing is known of a head."""

    label: str
    group: str
    """Key of the `Group` of these heads."""
    layers: tuple[str, ...]
    cells: tuple[tuple[WordCell | None, ...], ...]


@dataclass(frozen=True, eq=False)
class WordMap:
    """A word for every head."""

    key: str
    title: str
    summary: str
    description: str
    words: tuple[tuple[str, int], ...]
    """Every word and how many heads have it, most heads first."""
    panels: tuple[WordPanel, ...]

    @property
    def known(self) -> list[WordCell]:
        """All heads of which something is known."""
        return [cell for panel in self.panels for row in panel.cells for cell in row if cell is not None]
