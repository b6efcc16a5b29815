"""Validation split of a file: examples to fit and to choose on, by hashed content."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.example import Example, subset

RULE = (
    "validation: examples whose content (the group that the data name, else the sentence that a sound says, pixels of "
    "pictures, samples of sounds, or the text without blanks and capitals) has a SHA-256 in the last fifth, and all "
    "that share a group or content with them; drawn for a test only where the others are too few"
)
"""The split of a file, as manifests state it."""


class Validation(list[Example]):
    """Examples to fit or choose on, and how many were passed over since they share content with what is compared."""

    def __init__(self, examples: Iterable[Example] = (), *, left_out: int = 0) -> None:
        super().__init__(examples)
        self.left_out = left_out


def in_validation(examples: Sequence[Example], reader: ContentReader | None = None) -> list[bool]:
    """True for every example of a file that is of its validation split, see `FileSplit`.

    Example:
        >>> in_validation([Example(str(n), {"text": f"line {n}"}, "") for n in range(8)]).count(True)
        1
    """
    split = FileSplit(examples, reader)
    return [split.side(example) is True for example in examples]


def draw_of_file(
    examples: Sequence[Example], n: int | None, seed: int, *, what: str, split: FileSplit | None = None
) -> list[Example]:
    """`n` of a file's examples in its order, of the validation split only where the others are too few.

    Args:
        examples: of the file.
        n: how many; None takes all.
        seed: chooses them.
        what: the task, for messages.
        split: of the whole file, where `examples` are a part of it.

    Raises:
        InputError: there are fewer.
    """
    if n is None or n >= len(examples):
        return subset(examples, n, seed, what=what)
    split = split or FileSplit(examples)
    test: list[int] = []
    rest: dict[int, bool] = {}
    for index in random.Random(seed).sample(range(len(examples)), len(examples)):
        side = split.side(examples[index])
        if side is False:
            test.append(index)
        else:
            rest[index] = side is True
        if len(test) == n:
            break
    chosen = [*test, *sorted(rest, key=rest.__getitem__)][:n]
    return [examples[index] for index in sorted(chosen)]


def without_shared(examples: Iterable[Example], exclude: Sequence[Example]) -> list[Example]:
    """The examples that share neither id nor content with any of `exclude`.

    Example:
        >>> cat, same, dog = (
        ...     Example(name, {"text": text}, "") for name, text in (("1", "A cat"), ("2", "a  cat"), ("3", "A dog"))
        ... )
        >>> [example.id for example in without_shared([cat, same, dog], [cat])]
        ['3']
    """
    compared = _Compared(exclude)
    return [
        example for example in examples if example.id not in compared.ids and not compared.shares(example)
    ]


class _Compared:
    """Ids and content of the examples that are compared."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.reader = ContentReader()
        self.ids = {example.id for example in examples}
        self._parts = {part for example in examples for part in self._all(example)}

    def shares(self, example: Example) -> bool:
        """True where a picture, sound, sentence or text of the example is one of theirs."""
        return bool(self._parts) and any(part in self._parts for part in self._all(example))

    def _all(self, example: Example) -> Iterable[tuple[str, str]]:
        return ((kind, name) for kind, names in self.reader.parts(example) for name in names)


def validation_of_data(task: Any, n: int, seed: int, exclude: Sequence[Example]) -> Validation:
    """`n` examples that share nothing with `exclude`: of a file's validation split, or of the zoo's texts and clips.

    Raises:
        InputError: there are fewer.
    """
    pool, compared = task.examples(), _Compared(exclude)
    split = FileSplit(pool, compared.reader) if task.over_file else None
    chosen: list[int] = []
    of_split = left_out = 0
    for index in random.Random(seed).sample(range(len(pool)), len(pool)):
        if split is not None and split.side(pool[index]) is not True:
            continue
        of_split += 1
        if pool[index].id in compared.ids:
            continue
        if compared.shares(pool[index]):
            left_out += 1
            continue
        chosen.append(index)
        if len(chosen) == n:
            return Validation((pool[index] for index in sorted(chosen)), left_out=left_out)
    shared = f"; {left_out} more share a picture, sound or text with them" if left_out else ""
    held = f"; the validation split, a fifth by hashed content, holds {of_split}" if split is not None else ""
    raise InputError(
        f"{task.title} has too few examples left to fit or choose on.",
        evidence=f"{len(chosen)} beside the {len(exclude)} that are compared, and {n} are wanted{held}{shared}",
        remedy="Compare fewer, or fit on fewer.",
    )


def validation_of_zoo(task: Any, n: int, seed: int, exclude: Sequence[Example]) -> Validation:
    """`Task.validation` of a task whose option `split` names a split of the zoo's data, unless it has files.

    A task that is itself set to the validation split gives of it what is not compared.

    Raises:
        InputError: there are fewer than `n`.
    """
    if task.over_file:
        return validation_of_data(task, n, seed, exclude)
    own = replace(task, split="validation")
    of_split = task.split == "validation"
    found = validation_of_data(own, n, seed, exclude) if of_split else Validation(own.draw(n, seed))
    named = (replace(example, id=f"validation/{example.id.removeprefix('validation/')}") for example in found)
    return Validation(named, left_out=found.left_out)


def split_record(task: Any, examples: Sequence[Example], reader: ContentReader) -> dict[str, Any]:
    """Rule of a file's split, and how many of the examples belong to validation; empty for the zoo's data."""
    if not task.over_file:
        return {}
    try:
        pool = task.examples()
    except NotImplementedError:  # a task that draws for itself
        pool = ()
    split = FileSplit(list({item.id: item for item in (*pool, *examples)}.values()), reader)
    return {"split": {"rule": RULE, "of_validation": sum(split.side(item) is True for item in examples)}}
