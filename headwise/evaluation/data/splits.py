"""Validation split of a file: examples to fit and to choose on, by hashed content."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.data.content import ContentReader
from headwise.evaluation.example import Example, subset

RULE = (
    "validation: examples whose content (the group that the data name, else the sentence that a sound says, pixels of "
    "pictures, samples of sounds, or the text without blanks and capitals) has a SHA-256 in the last fifth; drawn for "
    "a test only where the others are too few"
)
"""The split of a file, as manifests state it."""
_FIRST = 0.8 * 2**64


class Validation(list[Example]):
    """Examples to fit or choose on, and how many were passed over since they share content with what is compared."""

    def __init__(self, examples: Iterable[Example] = (), *, left_out: int = 0) -> None:
        super().__init__(examples)
        self.left_out = left_out


def in_validation(example: Example, reader: ContentReader | None = None) -> bool:
    """True in the validation split: the hash of the content falls into the last fifth.

    Content is the pictures or sounds where there are any, whatever is asked about them, and otherwise the text. So the
    split is the same on every machine, when a file grows, and for a copy under another name. An example about several
    pictures is in it if all of them are.

    Example:
        >>> [in_validation(Example(str(n), {"text": f"line {n}"}, "")) for n in range(8)].count(True)
        1
    """
    return all(_in_last_fifth(example, reader or ContentReader()))


def _in_last_fifth(example: Example, reader: ContentReader) -> list[bool]:
    """Whether each picture, or what else the example is about, falls there."""
    _, names = next(reader.parts(example))
    return [int.from_bytes(sha256(name.encode()).digest()[:8]) >= _FIRST for name in names]


def draw_of_file(examples: Sequence[Example], n: int | None, seed: int, *, what: str) -> list[Example]:
    """`n` of a file's examples in its order, of the validation split only where the others are too few.

    Raises:
        InputError: there are fewer.
    """
    if n is None or n >= len(examples):
        return subset(examples, n, seed, what=what)
    reader = ContentReader()
    test: list[int] = []
    rest: dict[int, bool] = {}
    for index in random.Random(seed).sample(range(len(examples)), len(examples)):
        fifth = _in_last_fifth(examples[index], reader)
        if any(fifth):
            rest[index] = all(fifth)
        else:
            test.append(index)
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
    chosen: list[int] = []
    of_split = left_out = 0
    for index in random.Random(seed).sample(range(len(pool)), len(pool)):
        if task.over_file and not in_validation(pool[index], compared.reader):
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
    split = f"; the validation split, a fifth by hashed content, holds {of_split}" if task.over_file else ""
    raise InputError(
        f"{task.title} has too few examples left to fit or choose on.",
        evidence=f"{len(chosen)} beside the {len(exclude)} that are compared, and {n} are wanted{split}{shared}",
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
    return {"split": {"rule": RULE, "of_validation": sum(in_validation(item, reader) for item in examples)}}
