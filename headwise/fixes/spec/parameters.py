"""A fix as its registered name and plain parameters, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, get_type_hints

from torch import Tensor

from headwise.errors import FixError, HeadwiseError, InputError
from headwise.fixes.registry import FIXES, get, names
from headwise.fixes.spec.file import Entry
from headwise.plugins import listed, needed, read_options
from headwise.text import visible


def to_entry(fix: Any) -> Entry:
    """The name and the parameters of a fix.

    Raises:
        FixError: the fix cannot be written, with the reason: it is not registered or no dataclass, or holds what
            JSON cannot.

    Example:
        >>> from headwise.fixes import ZeroHeads
        >>> to_entry(ZeroHeads(heads=((0, 1),)))
        Entry(fix='zero_heads', parameters={'heads': [[0, 1]], 'tower': None, 'kind': 'self'})
    """
    kind = type(fix)
    name = _registered_name(kind)
    parameters = {
        item.name: _plain(getattr(fix, item.name), f"{kind.__name__}.{item.name}")
        for item in _parameters(kind, name)
    }
    return Entry(fix=name, parameters=parameters)


def from_entry(entry: Entry) -> Any:
    """The fix that an entry describes.

    Raises:
        InputError: no fix has this name.
        FixError: a parameter is unknown, missing, of another kind, or out of the range that the fix allows.

    Example:
        >>> from_entry(Entry(fix="zero_heads", parameters={"heads": [[0, 1]]}))
        ZeroHeads(heads=((0, 1),), tower=None, kind='self')
    """
    kind = get(entry.fix)
    kinds = parameters_of(kind, entry.fix)
    missing = needed(kind, entry.parameters)
    try:
        values = read_options(entry.fix, kinds, entry.parameters, source="json")
    except InputError as error:
        raise FixError(
            error.fact,
            evidence=error.evidence,
            remedy="Correct it, or write the spec again with hw.save_spec.",
        ) from error
    if missing:
        raise FixError(
            f"{entry.fix} lacks the parameter {listed(missing)}.",
            evidence=f"given: {', '.join(entry.parameters) or 'none'}",
            remedy="Write the spec again with hw.save_spec.",
        )
    try:
        return kind(**values)
    except HeadwiseError as error:
        raise FixError(
            f"The spec's {entry.fix} is refused: {visible(error.fact, limit=200)}",
            evidence=visible(error.evidence, limit=200),
            remedy=visible(error.remedy, limit=200) or "Correct it in the file.",
        ) from error
    except Exception as error:  # a fix of another package may raise anything on values it did not expect
        raise FixError(
            f"The spec's {entry.fix} cannot be made from its parameters.",
            evidence=visible(f"{type(error).__name__}: {error}", limit=200),
            remedy="Write the spec again with hw.save_spec.",
        ) from error


def _registered_name(kind: type) -> str:
    own = {place: name for name, place in FIXES.own.items()}
    known = own.get(f"{kind.__module__}:{kind.__qualname__}")
    for name in (known,) if known else names():
        try:
            if get(name) is kind:
                return name
        except HeadwiseError:  # a package that cannot be imported registers this one; it is not this fix
            continue
    raise _unwritable(
        kind.__name__,
        "no fix is registered with this class",
        remedy="Register the class through the entry-point group headwise.fixes.",
    )


def parameters_of(kind: Any, name: str) -> dict[str, Any]:
    """The types of a fix's parameters.

    Raises:
        FixError: one is a tensor, which no text holds, or they cannot be found out.
    """
    hints = {item.name: _hints(kind)[item.name] for item in _parameters(kind, name)}
    tensors = [parameter for parameter, hint in hints.items() if hint is Tensor]
    if tensors:
        raise _unwritable(kind.__name__, f"{tensors[0]} is a tensor, and a spec holds plain values only")
    return hints


def _parameters(kind: Any, name: str) -> list[Field[Any]]:
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise _unwritable(visible(name), "it is not a dataclass, so its parameters are unknown")
    return [item for item in fields(kind) if item.init]


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise _unwritable(kind.__name__, f"the types of its parameters cannot be read ({error})") from error


def _plain(value: Any, where: str) -> Any:
    """The value as JSON knows it."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise _unwritable(where, f"it is {value}")
        return float(value)
    if isinstance(value, tuple | list):
        return [_plain(item, where) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, where) for key, item in value.items()}
    raise _unwritable(where, f"it holds a {type(value).__name__}, and a spec holds plain values only")


def _unwritable(what: str, reason: str, remedy: str = "Install it from Python with hw.patch.") -> FixError:
    return FixError(f"{what} cannot be in a spec.", evidence=reason, remedy=remedy)
