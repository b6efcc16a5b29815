"""Examples that belong together: about one picture, sound, sentence or document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.example import Example

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


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


def groups_of(examples: Sequence[Example], reader: ContentReader | None = None) -> Groups:
    """The groups of examples; `reader` knows the files that were read already.

    Example:
        >>> texts = enumerate(("A cat", "A cat", "A dog"))
        >>> groups_of([Example(str(number), {"text": text}, "") for number, text in texts]).record
        {'groups': '3 examples about 2 texts', 'repeated': 1}
        >>> groups_of([Example(name, {"text": "A cat"}, "", group=name) for name in "ab"]).record
        {'repeated': 1}
    """
    reader = reader or ContentReader()
    names = [group_of(example, reader) for example in examples]
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
    apart = len(numbers) == len(names)
    if apart and not any(example.group for example in examples):
        return Groups(None, {})
    repeated = len(examples) - len({reader.asks(example) for example in examples})
    if apart:
        return Groups(None, {"repeated": repeated} if repeated else {})
    kinds = {kind for kind, _ in names}
    said = f"{len(examples)} examples about {len(numbers)} {kinds.pop() if len(kinds) == 1 else 'groups'}"
    # else the number of texts or pictures says it
    more = repeated and repeated < len(examples) - len(numbers)
    record: dict[str, Any] = {"groups": said + (f", {repeated} of them repeated" if more else "")}
    if repeated:
        record["repeated"] = repeated
    return Groups([numbers[name] for name in names], record)


def groups_in(frame: pd.DataFrame, rows: np.ndarray) -> list[str] | None:
    """The groups of some rows of a per-example table; None where each example is one of its own.

    Args:
        frame: the table.
        rows: (row,) bool.
    """
    return frame["group"][rows].to_list() if "group" in frame else None
