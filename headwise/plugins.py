"""Things by name, headwise's own and those that installed packages add through entry points, and options as text.

A line such as `VAR:p=0.4,layers=[1,2]` becomes a name and options (`split_call`); options become values of the types
that their names have (`read_options`). Names may be written in any case, with `-`, with `_` or with neither.

Nothing is imported before it is asked for, and nothing is remembered between calls.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headwise.errors import HeadwiseError, InputError
from headwise.text import complaint, visible


def needed(kind: type, given: Collection[str]) -> list[str]:
    """The fields that a dataclass cannot be made without and that are not given.

    Example:
        >>> needed(Plugins, ["what"])
        ['group', 'own']
    """
    return [
        item.name
        for item in fields(kind)
        if item.init
        and item.default is MISSING
        and item.default_factory is MISSING
        and item.name not in given
    ]


@dataclass(frozen=True)
class Plugins:
    """One kind of thing that packages may add.

    Args:
        what: its name in messages, such as "analysis".
        group: the entry-point group.
        own: headwise's own, name -> "module:object".

    Example:
        >>> Plugins("codec", "headwise.codecs", {"json": "json:dumps"}).get("json")([1])
        '[1]'
    """

    what: str
    group: str
    own: Mapping[str, str]

    def find(self, name: str) -> str | None:
        """The name as it is registered, however it is written; None for an unknown one."""
        points = self._points()
        alike = {_plain(known): known for known in points}
        return name if name in points else alike.get(_plain(name))

    def names(self) -> tuple[str, ...]:
        """Every name that `get` finds, sorted.

        Raises:
            HeadwiseError: two packages use one name.
        """
        return tuple(sorted(self._points()))

    def get(self, name: str) -> Any:
        """The object called `name`.

        Raises:
            InputError: there is none; close names are listed.
            HeadwiseError: two packages use one name, or the one that adds it cannot be imported.
        """
        points = self._points()
        known = self.find(name)
        if known is None:
            folded = name[:100].casefold().replace("-", "_")
            close = (
                get_close_matches(folded, points) or get_close_matches(name[:100], points) or sorted(points)
            )
            raise InputError(
                f"There is no {self.what} {name!r}.",
                evidence=f"close: {', '.join(close)}",
                remedy="Use a name that exists.",
            )
        module, _, attribute = points[known].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise HeadwiseError(
                f"The {self.what} {name!r} could not be loaded.",
                evidence=f"{points[known]}: {error}",
                remedy="Repair or remove the package that adds it.",
            ) from error

    def _points(self) -> dict[str, str]:
        points = dict(self.own)
        added: list[EntryPoint] = list(entry_points(group=self.group))
        for point in added:
            if points.get(point.name, point.value) != point.value:
                raise HeadwiseError(
                    f"The {self.what} {point.name!r} is defined twice.",
                    evidence=f"{points[point.name]} and {point.value}",
                    remedy="Remove or rename one of them.",
                )
            points[point.name] = point.value
        return points


def split_call(text: str) -> tuple[str, dict[str, str]]:
    """A name and its parameters, as a command line says them.

    Raises:
        InputError: a part is no parameter.

    Example:
        >>> split_call("VAR:p=0.4,layers=[1,2]")
        ('VAR', {'p': '0.4', 'layers': '[1,2]'})
    """
    name, _, rest = text.strip().partition(":")
    options = {}
    for pair in split_outside_brackets(rest, ",") if rest else ():
        option, sign, value = pair.partition("=")
        if not (option.strip() and sign and value.strip()):
            raise InputError(
                f"This is no parameter of {name}.",
                evidence=repr(pair),
                remedy="Write NAME:PARAMETER=VALUE, for example VAR:p=0.4.",
            )
        options[option.strip()] = value.strip()
    return name, options


def split_outside_brackets(text: str, mark: str) -> list[str]:
    """The parts between marks that stand outside of brackets.

    Example:
        >>> split_outside_brackets("a[1,2],b", ",")
        ['a[1,2]', 'b']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


STRICT: Any = {"strict": True, "arbitrary_types_allowed": True, "allow_inf_nan": False}


def read_options(
    owner: str,
    kinds: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    word: str = "parameter",
    strict: bool = False,
) -> dict[str, Any]:
    """Options in the types that they have.

    Args:
        owner: whose options they are, for messages.
        kinds: the type of every option that there is.
        given: their values. Text, as from a command line, is read as JSON (or as True, False and None) where its type
            wants no text.
        word: what an option is called in messages.
        strict: values are those of a JSON file: no number is a text, and none is infinite.

    Raises:
        InputError: an option is unknown, or its value is of another type.

    Example:
        >>> read_options("the test", {"p": float, "layers": tuple[int, ...]}, {"p": "0.4", "layers": "[1, 2]"})
        {'p': 0.4, 'layers': (1, 2)}
    """
    unknown = [name for name in given if name not in kinds]
    if unknown:
        close = get_close_matches(unknown[0][:100], kinds) or sorted(kinds)
        raise InputError(
            f"{owner} has no {word} {listed(unknown)}.",
            evidence=f"close: {', '.join(close) or 'none'}",
            remedy="Use a name that exists, or leave it out.",
        )
    return {name: _read(owner, name, kinds[name], value, word, strict) for name, value in given.items()}


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(visible(repr(name), limit=60) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _read(owner: str, name: str, kind: Any, value: Any, word: str, strict: bool) -> Any:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    text = json.dumps(value) if strict else repr(value)
    try:
        adapter = TypeAdapter(kind, config=STRICT if strict else None)
    except PydanticUserError as error:
        raise InputError(
            f"The type of the {word} {name!r} of {owner} is not understood.",
            evidence=visible((str(error).splitlines() or [""])[0], limit=120),
            remedy="Give it from Python.",
        ) from error
    try:
        if strict:
            return adapter.validate_json(text)
        try:
            return adapter.validate_python(_from_text(value) if isinstance(value, str) else value)
        except ValidationError:
            return adapter.validate_python(value)
    except ValidationError as error:
        raise InputError(
            f"The {word} {name!r} of {owner} cannot be {visible(text, limit=60)}.",
            evidence=complaint(error),
            remedy="Give a value of its kind.",
        ) from error


def _from_text(text: str) -> Any:
    """What JSON, or Python's True, False and None, says; else the text."""
    constants = {"True": True, "False": False, "None": None}
    if text in constants:
        return constants[text]
    from pydantic_core import from_json

    try:
        return from_json(text, allow_inf_nan=False)  # refuses endless nesting
    except ValueError:
        return text


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
