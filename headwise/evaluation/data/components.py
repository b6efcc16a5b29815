"""The side of every example of a file: what shares a group or content, directly or through others, is not divided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256

import numpy as np

from headwise.evaluation.data.content import ContentReader, items
from headwise.evaluation.example import Example

MANY = 5
"""Names from which what hangs together is divided nevertheless: a fifth of them is one."""
_FIRST = 0.8 * 2**64


class FileSplit:
    """Validation or test, for every example of a file: none of one side shares a group or content with the other.

    Examples that share a group, a picture, a sound, a sentence or a text hang together, and so do those that share one
    with the same third. All of them go by the first, in the alphabet, of their names (of groups where the data name
    any): to validation if its SHA-256 lies in the last fifth. So an example that is added moves none but those it hangs
    together with. Where `MANY` names or more hang together, such as speakers who all say the same sentences, an example
    is of the validation split if each of its own names falls there, of the test split if none does, else of neither.

    All pictures and sounds are read where the data name groups or an example has several, and otherwise those of the
    examples that are asked for; sounds whose sentence is known then go by it and by their path.

    Args:
        examples: all of the file; their ids differ.
        reader: of their content.

    Example:
        >>> rows = [("a", "one"), ("b", "One "), ("b", "two"), ("c", "three")]
        >>> found = [Example(text, {"text": text}, "", group=group) for group, text in rows]
        >>> split = FileSplit(found)
        >>> [split.component(example) for example in found], [split.side(example) for example in found]
        ([0, 0, 0, 1], [False, False, False, False])
    """

    def __init__(self, examples: Sequence[Example], reader: ContentReader | None = None) -> None:
        self.examples = examples
        self.reader = reader or ContentReader()

    def component(self, example: Example) -> int:
        """The number of what it hangs together with, from 0."""
        return int(self._components[self._places[example.id]])

    def side(self, example: Example) -> bool | None:
        """True in the validation split, False in the test split, None in neither."""
        leading = self._leading(self.component(example))
        if len(leading) < MANY:
            return _in_last_fifth(min(leading))
        sides = {_in_last_fifth(name) for _, names in self.reader.parts(example) for name in names}
        return sides.pop() if len(sides) == 1 else None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {example.id: place for place, example in enumerate(self.examples)}

    @cached_property
    def _components(self) -> np.ndarray:
        """The number of the component of every example."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        closely = any(example.group or _shows_several(example) for example in self.examples)
        reader = self.reader if closely else ContentReader(by_path=True)
        n, numbers, pairs = len(self.examples), {}, []
        for place, example in enumerate(self.examples):
            for kind, names in reader.parts(example):
                pairs += [(place, n + numbers.setdefault((kind, name), len(numbers))) for name in names]
        size = n + len(numbers)
        graph = coo_array((np.ones(len(pairs), bool), np.transpose(pairs)), (size, size))
        return connected_components(graph, directed=False)[1][:n]

    @cached_property
    def _members(self) -> dict[int, list[Example]]:
        found = defaultdict(list)
        for example, component in zip(self.examples, self._components.tolist(), strict=True):
            found[component].append(example)
        return found

    @cached_property
    def _named(self) -> dict[int, set[str]]:
        return {}

    def _leading(self, component: int) -> set[str]:
        """The names that a component goes by."""
        if component not in self._named:
            parts = [next(self.reader.parts(example)) for example in self._members[component]]
            groups = {name for kind, names in parts if kind == "groups" for name in names}
            self._named[component] = groups or {name for _, names in parts for name in names}
        return self._named[component]


def _shows_several(example: Example) -> bool:
    return any(len({id(item) for item in items(example.inputs.get(name))}) > 1 for name in ("image", "audio"))


def _in_last_fifth(name: str) -> bool:
    return int.from_bytes(sha256(name.encode()).digest()[:8]) >= _FIRST
