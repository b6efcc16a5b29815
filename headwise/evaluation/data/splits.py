"""Validation split of a file: examples to fit and to choose on, by hashed content."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.example import Example, subset

RULE = (
    "validation: examples whose content (names of picture and sound files, else the text) has a SHA-256 in the last "
    "fifth; drawn for a test only where the others are too few"
)
"""The split of a file, as manifests state it."""
_FIRST = 0.8 * 2**64


def in_validation(example: Example) -> bool:
    """True in the validation split: the hash of the content falls into the last fifth.

    Content is the files of pictures and sounds where there are any, by name and whatever is asked about them, and
    otherwise the text. So the split is the same on every machine, and when a file grows.

    Example:
        >>> [in_validation(Example(str(n), {"text": f"line {n}"}, "")) for n in range(8)].count(True)
        1
    """
    parts = sorted({Path(item).name if kind == "file" else item for kind, item in _content(example)})
    digest = sha256("\n".join(parts or [example.id]).encode()).digest()
    return int.from_bytes(digest[:8]) >= _FIRST


def draw_of_file(examples: Sequence[Example], n: int | None, seed: int, *, what: str) -> list[Example]:
    """`n` of a file's examples in its order, of the validation split only where the others are too few.

    Raises:
        InputError: there are fewer.
    """
    if n is None or n >= len(examples):
        return subset(examples, n, seed, what=what)
    in_split = [in_validation(example) for example in examples]
    test = [index for index, validation in enumerate(in_split) if not validation]
    rest = [index for index, validation in enumerate(in_split) if validation]
    rng = random.Random(seed)
    chosen = rng.sample(test, n) if n <= len(test) else test + rng.sample(rest, n - len(test))
    return [examples[index] for index in sorted(chosen)]


def without_shared(examples: Iterable[Example], exclude: Sequence[Example]) -> list[Example]:
    """The examples that share neither id nor content with any of `exclude`.

    Example:
        >>> cat, same, dog = (
        ...     Example(name, {"text": text}, "") for name, text in (("1", "A cat"), ("2", "A cat"), ("3", "A dog"))
        ... )
        >>> [example.id for example in without_shared([cat, same, dog], [cat])]
        ['3']
    """
    known = {part for example in exclude for part in (("id", example.id), *_content(example))}
    return [example for example in examples if known.isdisjoint((("id", example.id), *_content(example)))]


def validation_of_data(task: Any, n: int, seed: int, exclude: Sequence[Example]) -> list[Example]:
    """`n` examples that share nothing with `exclude`: of a file's validation split, or of the zoo's texts and clips.

    Raises:
        InputError: there are fewer.
    """
    pool = task.examples()
    if task.over_file:
        pool = [example for example in pool if in_validation(example)]
    left = without_shared(pool, exclude)
    if len(left) < n:
        split = (
            f"; the validation split, a fifth by hashed content, holds {len(pool)}" if task.over_file else ""
        )
        raise InputError(
            f"{task.title} has too few examples left to fit or choose on.",
            evidence=f"{len(left)} beside the {len(exclude)} that are compared, and {n} are wanted{split}",
            remedy="Compare fewer, or fit on fewer.",
        )
    return subset(left, n, seed, what=task.title)


def validation_of_zoo(task: Any, n: int, seed: int, exclude: Sequence[Example]) -> list[Example]:
    """`Task.validation` of a task whose option `split` names a split of the zoo's data, unless it has files.

    A task that is itself set to the validation split gives of it what is not compared.

    Raises:
        InputError: there are fewer than `n`.
    """
    if task.over_file:
        return validation_of_data(task, n, seed, exclude)
    own = replace(task, split="validation")
    found = validation_of_data(own, n, seed, exclude) if task.split == "validation" else own.draw(n, seed)
    return [replace(example, id=f"validation/{example.id.removeprefix('validation/')}") for example in found]


def split_record(task: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """Rule of a file's split, and how many of the examples belong to validation; empty for the zoo's data."""
    return (
        {"split": {"rule": RULE, "of_validation": sum(map(in_validation, examples))}}
        if task.over_file
        else {}
    )


def _content(example: Example) -> set[tuple[str, str]]:
    files = {
        str(item)
        for name, value in example.inputs.items()
        if name not in ("text", "target")
        for item in _files(value)
    }
    text = example.inputs.get("text")
    if not files and isinstance(text, str):
        return {("text", text)}
    return {("file", item) for item in files}


def _files(value: Any) -> list[Path]:
    items = value if isinstance(value, list | tuple) else [value]
    return [Path(item) for item in items if isinstance(item, str | Path)]
