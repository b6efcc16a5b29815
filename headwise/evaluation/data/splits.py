"""Examples to fit and to choose on, kept apart from those that a fix is judged on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.task import Example, Task, subset


class _Unknown(tuple[Example, ...]):
    """No examples, told apart from an empty list of them."""

    __slots__ = ()


UNKNOWN: Sequence[Example] = _Unknown()
"""In the place of the examples that are compared, where nobody said which: data without a split of its own is then
refused rather than fitted on."""


def unseen(examples: Iterable[Example], besides: Sequence[Example]) -> list[Example]:
    """The examples that share neither id nor content with any of `besides`.

    Content is the file of a picture or a sound where there is one, whatever is asked about it, and otherwise
    the text.

    Example:
        >>> cat, same, dog = (
        ...     Example(name, {"text": text}, "") for name, text in (("1", "A cat"), ("2", "A cat"), ("3", "A dog"))
        ... )
        >>> [example.id for example in unseen([cat, same, dog], [cat])]
        ['3']
    """
    known = {part for example in besides for part in _content(example)}
    return [example for example in examples if known.isdisjoint(_content(example))]


def left_over(task: Task, n: int, seed: int, besides: Sequence[Example]) -> list[Example]:
    """`n` of a file's examples that were not drawn, see `Task.validation`.

    Raises:
        InputError: there are fewer, or `besides` is `UNKNOWN`.
    """
    every = task.examples()
    if besides is UNKNOWN:
        raise InputError(
            f"{task.title} sets no examples apart to fit on.",
            evidence=f"any of its {len(every)} may be compared later",
            remedy="Give spare=N (--spare N), how many will be compared with this seed (0 if none), fit on other "
            "data, or let hw.compare fit.",
        )
    left = unseen(every, besides)
    if len(left) < n:
        raise InputError(
            f"{task.title} has too few examples left to fit or choose on.",
            evidence=f"{len(left)} beside the {len(besides)} that are compared, and {n} are wanted",
            remedy="Compare fewer, or fit on fewer.",
        )
    return subset(left, n, seed, what=task.title)


def of_validation_split(task: Any, n: int, seed: int, besides: Sequence[Example]) -> list[Example]:
    """`Task.validation` of a task whose option `split` names a split of the zoo's data, unless it has files.

    A task that is itself set to the validation split gives of it what is not compared.

    Raises:
        InputError: there are fewer than `n`.
    """
    if getattr(task, "data", None) is not None:
        return left_over(task, n, seed, besides)
    own: Task = replace(task, split="validation")
    found = left_over(own, n, seed, besides) if task.split == "validation" else own.draw(n, seed)
    return [replace(example, id=f"validation/{example.id.removeprefix('validation/')}") for example in found]


def _content(example: Example) -> set[tuple[str, str]]:
    found = {item for name, value in example.inputs.items() if name != "text" for item in _files(value)}
    text = example.inputs.get("text")
    if not found and isinstance(text, str):
        found = {text}
    return {("id", example.id)} | {("content", str(item)) for item in found}


def _files(value: Any) -> list[Path]:
    items = value if isinstance(value, list | tuple) else [value]
    return [Path(item) for item in items if isinstance(item, str | Path)]
