"""Things by name: headwise's own, and those that installed packages add through entry points.

Nothing is imported before it is asked for, and nothing is remembered between calls.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from headwise.errors import HeadwiseError, InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


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
        if name not in points:
            close = get_close_matches(name, points) or sorted(points)
            raise InputError(
                f"There is no {self.what} {name!r}.",
                evidence=f"close: {', '.join(close)}",
                remedy="Use a name that exists.",
            )
        module, _, attribute = points[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise HeadwiseError(
                f"The {self.what} {name!r} could not be loaded.",
                evidence=f"{points[name]}: {error}",
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


def valued(kind: TypeAdapter[Any], value: Any) -> Any:
    """The value in its type; what is no word or number is written as JSON, such as heads: [[1, 0]]."""
    from pydantic import ValidationError

    try:
        return kind.validate_python(value)
    except ValidationError:
        if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
            raise
        return kind.validate_json(value)
