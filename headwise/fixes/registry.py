"""Fixes by name: headwise's own, and those that packages add through the entry-point group `headwise.fixes`."""

from __future__ import annotations

import json
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from headwise.errors import FixError, InputError
from headwise.plugins import Plugins, needed

FIXES = Plugins(
    "fix",
    "headwise.fixes",
    {
        "act": "headwise.fixes.methods.act:ACT",
        "mask_keys": "headwise.fixes.edits.mask_keys:MaskKeys",
        "replace": "headwise.fixes.edits.replace:Replace",
        "scale_heads": "headwise.fixes.edits.scale_heads:ScaleHeads",
        "set_rows": "headwise.fixes.edits.set_rows:SetRows",
        "var": "headwise.fixes.methods.var:VAR",
        "vhr": "headwise.fixes.methods.vhr:VHR",
        "zero_heads": "headwise.fixes.edits.scale_heads:ZeroHeads",
    },
)

get, names = FIXES.get, FIXES.names


def find_fix(name: str, **options: Any) -> Any:
    """The fix called `name`, in any case and with or without underscores, with its parameters.

    Values may be strings, as they come from a command line: they are read as JSON where they are JSON.

    Raises:
        InputError: there is no such fix or parameter, or one is missing.
        FixError: a value is out of range.

    Example:
        >>> find_fix("VAR", p="0.4").p
        0.4
    """
    wanted = name.casefold().replace("-", "_")
    alike = {known.replace("_", ""): known for known in names()}
    kind = get(alike.get(wanted.replace("_", ""), wanted))
    known = [item.name for item in fields(kind) if item.init]
    for option in options:
        if option not in known:
            close = get_close_matches(option, known) or sorted(known)
            raise InputError(
                f"The fix {name} has no parameter {option!r}.",
                evidence=f"it has: {', '.join(close)}",
                remedy="Use one of these, or leave it out.",
            )
    missing = needed(kind, options)
    if missing:
        raise InputError(
            f"The fix {name} needs a parameter.",
            evidence=", ".join(missing),
            remedy=f"For example {name}:{missing[0]}=VALUE.",
        )
    return kind(**{option: _value(value) for option, value in options.items()})


def in_place_of_a_file(text: str) -> str:
    """What to do where the name of a fix stands in the place of a spec; empty where it names none.

    Example:
        >>> in_place_of_a_file("ACT")[:37]
        'ACT is a fix: install hw.fixes.ACT(),'
    """
    name = text.partition(":")[0]
    alike = {known.replace("_", ""): known for known in names()}
    known = alike.get(name.casefold().replace("-", "").replace("_", ""))
    if known is None:
        return ""
    kind = get(known)
    missing = ", ".join(f"{option}=..." for option in needed(kind, ()))
    own = kind.__module__.startswith("headwise.")
    made = f"{'hw.fixes.' if own else ''}{kind.__name__}({missing})"
    fitted = f", or what hw.fit(subject, {made}, ...) finds," if callable(getattr(kind, "fit", None)) else ""
    return f"{name} is a fix: install {made}{fitted} or give the file that hw.save_spec wrote."


def _value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[value]
    try:
        return json.loads(value, parse_constant=_refuse)
    except json.JSONDecodeError:
        return value
    except RecursionError as error:
        raise InputError("This value is nested too deeply.", evidence=f"{value[:20]}...") from error


def _refuse(constant: str) -> Any:
    raise FixError("A parameter must be a finite number.", evidence=f"got {constant}")
