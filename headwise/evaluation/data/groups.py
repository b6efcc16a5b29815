"""Examples that belong together: about one picture, sound, sentence or document."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from headwise.evaluation.example import Example


def group_of(example: Example) -> tuple[str, str]:
    """What an example is about, the same for all that are about it: its kind, in the plural, and its name.

    That is its `group` where the data name one; else the sentence that a sound says, the pictures (their files, or
    their bytes), or the text without blanks and capitals; the example itself where there is nothing of these.

    Example:
        >>> one, two = (Example(name, {"text": text}, "") for name, text in (("1", "A  cat"), ("2", "a cat")))
        >>> group_of(one), group_of(one) == group_of(two)
        (('texts', 'a cat'), True)
    """
    if example.group:
        return "groups", example.group
    inputs, answer = example.inputs, example.answer
    if "audio" in inputs and isinstance(answer, str) and answer.strip():
        return "sentences", _plain(answer)
    media = sorted(
        _name(item)
        for name, value in inputs.items()
        if name not in ("text", "target")
        for item in _items(value)
    )
    if media:
        return "pictures" if "image" in inputs else "sounds", " ".join(media)
    text = inputs.get("text")
    return ("texts", _plain(text)) if isinstance(text, str) and text.strip() else ("examples", example.id)


def group_column(examples: Sequence[Example]) -> list[str] | None:
    """The number of the group of every example, as a text; None where each is one of its own."""
    names = list(map(group_of, examples))
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
    return None if len(numbers) == len(names) else [numbers[name] for name in names]


def group_record(examples: Sequence[Example]) -> dict[str, str]:
    """For a manifest: how many examples are about how many pictures; empty where each is one of its own.

    Example:
        >>> texts = enumerate(("A cat", "A cat", "A dog"))
        >>> group_record([Example(str(number), {"text": text}, "") for number, text in texts])
        {'groups': '3 examples about 2 texts'}
    """
    column = group_column(examples)
    if column is None:
        return {}
    kinds = {group_of(example)[0] for example in examples}
    kind = kinds.pop() if len(kinds) == 1 else "groups"
    return {"groups": f"{len(examples)} examples about {len(set(column))} {kind}"}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _name(item: Any) -> str:
    """A file by its path, other content by its bytes."""
    if isinstance(item, str | Path):
        return f"file {item}"
    content = item[0] if isinstance(item, tuple) else item
    return sha256(np.ascontiguousarray(content).tobytes()).hexdigest()


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
