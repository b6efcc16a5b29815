"""What an example is about, by content: the same in another file, under another name, in other capitals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.readers.sound import read_sound
from headwise.readers.unicode import compatible
from headwise.subject.media import read_image


@dataclass(frozen=True)
class ContentReader:
    """Content of examples: a group that the data name, the sentence that a sound says, pictures by their pixels and
    sounds by their samples, or the text where there are none of these.

    Texts are compared without blanks, capitals and forms of Unicode, sentences without marks as well. What is asked
    about a picture or a sound is not its content. A file that cannot be read goes by its name.
    """

    by_path: bool = False
    """True reads no file: one goes by its path."""
    _known: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    """Kind and path of a file -> its digest, "texts" and a text -> its plain form: each is read once."""

    def parts(self, example: Example) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Kinds, in the plural, each with the names of what the example has of it; what it belongs to is the first.

        Example:
            >>> for kind, names in ContentReader().parts(Example("1", {"text": "A  cat "}, "")):
            ...     print(kind, names)
            texts ('acat',)
        """
        inputs, answer = example.inputs, example.answer
        if example.group:
            yield "groups", (example.group,)
        if "audio" in inputs and isinstance(answer, str) and (said := plain_text(answer, marks=False)):
            yield "sentences", (said,)
        kinds = {"image": "pictures", "audio": "sounds"}
        media = {
            kinds[name]: names
            for name in kinds
            if (names := sorted({self._name(kinds[name], item) for item in items(inputs.get(name))}))
        }
        yield from ((kind, tuple(names)) for kind, names in media.items())
        if not media:
            texts = self._texts(example)
            texts = [example.metadata["content"]] if "content" in example.metadata else texts
            names = tuple(sorted({text for text in texts if text}))
            if names or not example.group:
                yield ("texts", names) if names else ("examples", (example.id,))

    def asks(self, example: Example) -> tuple[object, ...]:
        """What is shown and asked, the same for two examples only if one repeats the other."""
        own = {kind: names for kind, names in self.parts(example) if kind not in ("groups", "sentences")}
        texts = tuple(self._texts(example))
        return (texts, *sorted(own.items())) if texts or own else (example.id,)

    def _texts(self, example: Example) -> list[str]:
        found = []
        for text in items(example.inputs.get("text")):
            if isinstance(text, str):
                key = ("texts", text)
                if key not in self._known:
                    self._known[key] = plain_text(text)
                found.append(self._known[key])
        return found

    def _name(self, kind: str, item: Any) -> str:
        if not isinstance(item, str | PathLike):
            return _digest(kind, item)
        key = (kind, fspath(item))
        if key not in self._known:
            self._known[key] = f"file {key[1]}" if self.by_path else _digest(kind, item)
        return self._known[key]


def _digest(kind: str, item: Any) -> str:
    """The SHA-256 of pixels or samples; of what cannot be read the name of the file, or of the bytes there are."""
    try:
        if kind == "pictures":
            picture = read_image(item)
            return sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
        samples = item[0] if isinstance(item, tuple) else item
        if isinstance(samples, str | PathLike):
            samples = read_sound(samples)[0]
        return sha256(np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()
    except InputError:
        if isinstance(item, str | PathLike):
            return f"file {Path(item).name}"
        return sha256(np.ascontiguousarray(item).tobytes()).hexdigest()


def plain_text(text: str, *, marks: bool = True) -> str:
    """A text without blanks, capitals and forms of Unicode, or without marks (punctuation) as well.

    Example:
        >>> plain_text(" It’s  A cat. "), plain_text("It’s a cat", marks=False)
        ('it’sacat.', 'itsacat')
    """
    plain = "".join(compatible(text).casefold().split())
    return plain if marks else "".join(one for one in plain if category(one)[0] != "P")


def items(value: Any) -> Iterator[Any]:
    """Items: what stands in a list, or in lists within it; a value alone."""
    if isinstance(value, list):
        for item in value:
            yield from items(item)
    elif value is not None:
        yield value
