"""Examples that belong together: about one picture, sound, sentence or document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.example import Example


@dataclass(frozen=True)
class Groups:
    """What examples are about, and which of them ask what another one asks."""

    column: list[str] | None
    """The number of the group of every example, as a text; None where each is one of its own."""
    record: dict[str, Any]
    """For a manifest: how many examples are about how many pictures, and how many repeat another one; empty where there
    are no such examples."""


def group_of(example: Example, reader: ContentReader | None = None) -> tuple[str, str]:
    """What an example is about, the same for all that are about it: its kind, in the plural, and its name.

    That is its `group` where the data name one; else the sentence that a sound says, the pictures, the sounds or the
    text, by content; the example itself where there is nothing of these.

    Example:
        >>> one, two = (Example(name, {"text": text}, "") for name, text in (("1", "A  cat"), ("2", "a cat")))
        >>> group_of(one), group_of(one) == group_of(two)
        (('texts', 'acat'), True)
    """
    kind, names = next((reader or ContentReader()).parts(example))
    return kind, " ".join(names)


def groups_of(examples: Sequence[Example]) -> Groups:
    """The groups of examples.

    Example:
        >>> texts = enumerate(("A cat", "A cat", "A dog"))
        >>> groups_of([Example(str(number), {"text": text}, "") for number, text in texts]).record
        {'groups': '3 examples about 2 texts', 'repeated': 1}
    """
    reader = ContentReader()
    names = [group_of(example, reader) for example in examples]
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) == len(names):
        return Groups(None, {})
    repeated = len(examples) - len({reader.asks(example) for example in examples})
    kinds = {kind for kind, _ in names}
    said = f"{len(examples)} examples about {len(numbers)} {kinds.pop() if len(kinds) == 1 else 'groups'}"
    more = repeated and repeated < len(examples) - len(
        numbers
    )  # else the number of texts or pictures says it
    record: dict[str, Any] = {"groups": said + (f", {repeated} of them repeated" if more else "")}
    if repeated:
        record["repeated"] = repeated
    return Groups([numbers[name] for name in names], record)


def group_column(examples: Sequence[Example]) -> list[str] | None:
    """The column of `groups_of`."""
    return groups_of(examples).column


def group_record(examples: Sequence[Example]) -> dict[str, Any]:
    """The record of `groups_of`."""
    return groups_of(examples).record
