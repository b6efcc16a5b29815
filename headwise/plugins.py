"""Things by name, headwise's own and those that installed packages add through entry points, and options as text.

A line such as `VAR:p=0.4,layers=[1,2]` becomes a name and options (`split_call`); options become values of the types
that their names have (`read_options`). Names of things and of options may be written in any case, with `-`, with `_` or
with neither; those of a file, as they are.

Nothing is imported before it is asked for. What packages add is read once: a package that is installed later is found
by the next process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Literal

from headwise.errors import HeadwiseError, InputError, UnknownAttribute
from headwise.readers.json import strict_loads
from headwise.text import complaint, visible

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def needed(kind: type, given: Collection[str]) -> list[str]:
    """The fields that a dataclass cannot be made without and that are not given; none of another class.

    Example:
        >>> needed(Plugins, ["what"])
        ['group', 'own']
    """
    return [
        item.name
        for item in (fields(kind) if is_dataclass(kind) else ())
        if item.init
        and item.default is MISSING
        and item.default_factory is MISSING
        and item.name not in given
    ]


@cache
def entry_points(group: str) -> metadata.EntryPoints:
    """What installed packages add to a group."""
    return metadata.entry_points(group=group)


def as_known(name: str, known: Iterable[str]) -> str | None:
    """The name among those that are known, however it is written; None where there is none, or more than one.

    Example:
        >>> as_known("Min-Rows", ["epsilon", "min_rows"])
        'min_rows'
    """
    alike = [one for one in known if _plain(one) == _plain(name)]
    return name if name in alike else alike[0] if len(alike) == 1 else None


def close_names(name: str, known: Iterable[str]) -> str:
    """The known names that are nearest to one that is not known; all of them where none is near.

    Example:
        >>> close_names("entrpy", ["sinks", "entropy"])
        'close: entropy'
    """
    plain = {_plain(one): one for one in reversed([*known])}
    close = [plain[one] for one in get_close_matches(_plain(name[:100]), plain)]
    return f"close: {', '.join(close or sorted(plain.values()))}" if plain else "there is none"


def unknown_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error of a module's `__getattr__`, which names what is near."""
    fact = f"module {module!r} has no attribute {name!r}"
    if name.startswith("_"):  # what Python itself asks for
        return AttributeError(fact)
    return UnknownAttribute(f"{fact}.", evidence=close_names(name, known), remedy="Use a name that exists.")


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
        return as_known(name, self._points())

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
        known = self.find(name) if isinstance(name, str) else None
        if known is None:
            raise InputError(
                f"There is no {self.what} {visible(repr(name), limit=100)}.",
                evidence=close_names(str(name), points),
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
        for point in entry_points(self.group):
            if points.get(point.name, point.value) != point.value:
                raise HeadwiseError(
                    f"The {self.what} {point.name!r} is defined twice.",
                    evidence=f"{points[point.name]} and {point.value}",
                    remedy="Remove or rename one of them.",
                )
            points[point.name] = point.value
        return points


def split_call(text: str, *, example: str = "VAR:p=0.4") -> tuple[str, dict[str, str]]:
    """A name and its parameters, as a command line says them; `example` is one of the kind, for messages.

    Raises:
        InputError: a part is no parameter, or one stands twice.

    Example:
        >>> split_call("VAR:p=0.4,layers=[1,2]")
        ('VAR', {'p': '0.4', 'layers': '[1,2]'})
    """
    name, _, rest = text.strip().partition(":")
    options: dict[str, str] = {}
    for pair in split_outside_brackets(rest, ",") if rest else ():
        option, sign, value = pair.partition("=")
        if not (option.strip() and sign and value.strip()):
            raise InputError(
                f"This is no parameter of {name}.",
                evidence=repr(pair),
                remedy=f"Write NAME:PARAMETER=VALUE, for example {example}.",
            )
        if option.strip() in options:
            raise _twice(name, "parameter", option.strip())
        options[option.strip()] = value.strip()
    return name, options


def split_outside_brackets(text: str, mark: str) -> list[str]:
    """The parts between marks that stand outside of brackets and of JSON's strings and numbers (1e+9); linear time.

    Example:
        >>> split_outside_brackets('a[1,2],b="c,d"', ",")
        ['a[1,2]', 'b="c,d"']
    """
    parts, depth, start = [], 0, 0
    for found in re.finditer(
        rf'"(?:[^"\\]|\\.)*"?|[\d.][eE]\+\d|[][(){{}}]|{re.escape(mark)}', text, re.DOTALL
    ):
        sign = found[0]
        depth += (sign in "[{(") - (sign in "]})")
        if sign == mark and depth == 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


CONSTANTS = {"True": True, "False": False, "None": None}
"""What a command line may say as Python does."""
STRICT: Any = {"strict": True, "arbitrary_types_allowed": True, "allow_inf_nan": False}


def read_options(
    owner: str,
    kinds: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    word: str = "parameter",
    source: Literal["text", "call", "json", "python"] = "text",
) -> dict[str, Any]:
    """Options in the types that they have.

    Args:
        owner: whose options they are, for messages.
        kinds: the type of every option that there is.
        given: their values.
        word: what an option is called in messages.
        source: where they come from. `"text"`, a command line: names may be written in any case, and text is read as
            JSON (or as True, False and None) where its type wants no text. `"json"`, a file: no number is a text, and
            none is infinite. `"call"`: names as on a command line, values as in a file. `"python"`: a value whose
            type cannot be checked is taken as it is.

    Raises:
        InputError: an option is unknown or stands twice, or its value is of another type.

    Example:
        >>> read_options("the test", {"p": float, "layers": tuple[int, ...]}, {"p": "0.4", "layers": "[1, 2]"})
        {'p': 0.4, 'layers': (1, 2)}
    """
    loose = source in ("text", "call")
    found = [as_known(name, kinds if loose else kinds.keys() & {name}) for name in given]
    unknown = [name for name, known in zip(given, found, strict=True) if known is None]
    if unknown:
        raise InputError(
            f"{owner} has no {word} {listed(unknown)}.",
            evidence=close_names(unknown[0], kinds),
            remedy="Use a name that exists, or leave it out.",
        )
    names = [known for known in found if known is not None]
    for name in names:
        if names.count(name) > 1:
            raise _twice(owner, word, name)
    values = zip(names, given.values(), strict=True)
    return {name: _read(owner, name, kinds[name], value, word, source) for name, value in values}


def _twice(owner: str, word: str, name: str) -> InputError:
    return InputError(
        f"The {word} {name!r} of {owner} is given twice.", remedy="Give it once, in one spelling."
    )


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(visible(repr(name), limit=60) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=256)
def _adapter(kind: Any, shown: str, *, strict: bool) -> TypeAdapter[Any]:
    """What reads values of an annotation; `shown` tells unions apart that are equal but for their order."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind, config=STRICT if strict else None)


def _read(owner: str, name: str, kind: Any, value: Any, word: str, source: str) -> Any:
    from pydantic import PydanticUserError, ValidationError

    written = source == "text" and isinstance(value, str)
    strict = written or source in ("call", "json")
    text = json.dumps(value) if strict and not written else repr(value)
    try:
        build = _adapter if _hashable(kind) else _adapter.__wrapped__
        adapter = build(kind, repr(kind), strict=strict)
    except PydanticUserError as error:
        if source == "python":
            return value
        raise InputError(
            f"The type of the {word} {name!r} of {owner} is not understood.",
            evidence=visible((str(error).splitlines() or [""])[0], limit=120),
            remedy="Give it from Python.",
        ) from error
    try:
        if not strict:
            return adapter.validate_python(value)
        if not written:
            return _exact(adapter.validate_json(text), value, text)
        try:
            return adapter.validate_json(json.dumps(_from_text(value)))
        except ValidationError:
            return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        raise InputError(
            f"The {word} {name!r} of {owner} cannot be {visible(text, limit=60)}.",
            evidence=complaint(error),
            remedy="Give a value of its kind.",
        ) from error


def _exact(found: Any, value: Any, text: str) -> Any:
    """What was read of a value; a whole number that a name stands for (pydantic takes "1_0") is written as one."""
    from pydantic import ValidationError

    if isinstance(found, Mapping) and any(type(key) is int and str(key) not in value for key in found):
        raise ValidationError.from_exception_data(
            "names", [{"type": "int_parsing", "loc": (), "input": visible(text, limit=60)}]
        )
    return found


def _from_text(text: str) -> Any:
    """What JSON, or Python's True, False and None, says; else the text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    try:
        return strict_loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
