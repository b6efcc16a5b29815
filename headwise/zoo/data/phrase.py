"""A phrase in two languages, cut into segments that are known to say the same, and its word alignment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from headwise.zoo.data.languages import language_of

NAMES = ("territory", "currency")
"""Labels of segments that are names, in which brackets and commas stand apart from the words."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a phrase with one meaning."""

    text: str
    slot: str = ""
    """What it says, such as `weekday` or `territory.2`: segments of both languages with one slot say the
    same. Empty for a space."""

    @property
    def label(self) -> str:
        """The kind of meaning: weekday, day, month, year, territory, amount, currency, mark; "" for a space."""
        return self.slot.partition(".")[0]


@dataclass(frozen=True)
class Unit:
    """A word to align: `text[start:end]` of its phrase."""

    text: str
    start: int
    end: int
    slot: str


@dataclass(frozen=True)
class Phrase:
    """A phrase of one language.

    Example:
        >>> phrase = Phrase("zh", (Segment("2021年", "year"), Segment("3月", "month")))
        >>> phrase.text, phrase.spans
        ('2021年3月', ((0, 5), (5, 7)))
    """

    language: str
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole phrase."""
        return "".join(segment.text for segment in self.segments)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and past-the-end character of every segment."""
        ends = list(accumulate(len(segment.text) for segment in self.segments))
        return tuple(zip([0, *ends], ends, strict=False))

    @property
    def units(self) -> tuple[Unit, ...]:
        """What is aligned: words between spaces with the marks split off; in Chinese whole segments."""
        return tuple(
            Unit(found.group(), start + found.start(), start + found.end(), segment.slot)
            for segment, (start, _) in zip(self.segments, self.spans, strict=True)
            for found in re.finditer(self._words(segment), segment.text)
        )

    def _words(self, segment: Segment) -> str:
        if not language_of(self.language).spaced:
            return r"\S(?:.*\S)?"
        return r"[(),]|[^\s(),]+" if segment.label in NAMES else r"\S+"


@dataclass(frozen=True)
class Link:
    """Two stretches of characters, of the source and of the target, that say the same."""

    source: tuple[int, int]
    target: tuple[int, int]
    label: str


@dataclass(frozen=True)
class PhrasePair:
    """A phrase in two languages.

    Equal slots on both sides make the links; they are known because the phrase was put together from them.
    """

    id: str
    kind: str
    source: Phrase
    target: Phrase
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What the phrase was made from: date (ISO), territories and currency (CLDR codes), amount."""

    @property
    def source_units(self) -> tuple[Unit, ...]:
        """Units of the source, which alignments count."""
        return self.source.units

    @property
    def target_units(self) -> tuple[Unit, ...]:
        """Units of the target, which alignments count."""
        return self.target.units

    @property
    def links(self) -> tuple[Link, ...]:
        """Segments that say the same, in the order of the source.

        The commas inside a date have no exact counterpart: each of them is linked to all of the other side.
        """
        return tuple(
            Link(source_span, target_span, segment.label)
            for segment, source_span in zip(self.source.segments, self.source.spans, strict=True)
            for other, target_span in zip(self.target.segments, self.target.spans, strict=True)
            if segment.slot and segment.slot == other.slot
        )

    def reversed(self) -> PhrasePair:
        """The pair from target to source."""
        return PhrasePair(self.id, self.kind, self.target, self.source, self.facts)


def alignment(pair: PhrasePair, *, sure: bool = False) -> set[tuple[int, int]]:
    """Links between the units of a pair: (index in `source_units`, index in `target_units`), from 0.

    Args:
        pair: the phrase in two languages.
        sure: only the links between one unit and one unit. Without it the possible links are there too: where
            a meaning takes several units on either side ("Kenyan shillings", "shilingi za Kenya"), which of
            them belong together is not known, and all are linked.

    Returns:
        The links. `sure=True` gives S and `sure=False` gives P of the alignment error rate.

    Example:
        >>> swahili = Phrase("sw", (Segment("shilingi za Kenya", "currency"), Segment(" "), Segment("2", "amount")))
        >>> english = Phrase("en", (Segment("2", "amount"), Segment(" "), Segment("Kenyan shillings", "currency")))
        >>> pair = PhrasePair("0", "amount", english, swahili)
        >>> sorted(alignment(pair, sure=True))
        [(0, 3)]
        >>> sorted(alignment(pair))
        [(0, 3), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    """
    sources, targets = _by_slot(pair.source_units), _by_slot(pair.target_units)
    return {
        (i, j)
        for slot, left in sources.items()
        for right in [targets.get(slot, [])]
        if not sure or len(left) == len(right) == 1
        for i in left
        for j in right
    }


def pharaoh(pair: PhrasePair) -> str:
    """The alignment as a line of a file: `0-3` for a sure link, `1p0` for a possible one, from 0.

    Example:
        >>> english = Phrase("en", (Segment("May", "month"), Segment(" "), Segment("2", "day")))
        >>> luo = Phrase("luo", (Segment("2", "day"), Segment(" "), Segment("Dwe mar Abich", "month")))
        >>> pharaoh(PhrasePair("0", "day", english, luo))
        '0p1 0p2 0p3 1-0'
    """
    certain = alignment(pair, sure=True)
    return " ".join(f"{i}-{j}" if (i, j) in certain else f"{i}p{j}" for i, j in sorted(alignment(pair)))


def _by_slot(units: tuple[Unit, ...]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        found.setdefault(unit.slot, []).append(index)
    return found
