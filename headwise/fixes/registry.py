"""Fixes by name: headwise's own, and those that packages add through the entry-point group `headwise.fixes`."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError
from headwise.plugins import Plugins, needed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject

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


def parse_fix(text: str, subject: Subject | PreTrainedModel | None = None) -> Any:
    """What a command line says of a fix: a name, a name with parameters, several joined by +, or the path of a spec.

    Args:
        text: see above.
        subject: a spec that was written for another model than this one is refused; None takes any.

    Returns:
        One fix, or a tuple of several.

    Raises:
        InputError: it says nothing of the kind.
        FixError: a value is out of range, or the spec is damaged or of another model.

    Example:
        >>> parse_fix("VAR:p=0.4,layers=[1,2]").layers
        (1, 2)
        >>> [type(fix).__name__ for fix in parse_fix("VAR+VHR")]
        ['VAR', 'VHR']
    """
    if text.endswith(".json") or os.path.isfile(text):  # False where the text is too long for a path
        from headwise.fixes.spec.specs import fixes_of, load_spec

        found = load_spec(text).fixes if subject is None else fixes_of(text, subject)
        return found[0] if len(found) == 1 else found
    several = tuple(_parse_one(part) for part in _split(text, "+"))
    return several[0] if len(several) == 1 else several


def _parse_one(text: str) -> Any:
    name, _, rest = text.strip().partition(":")
    options = {}
    for pair in _split(rest, ",") if rest else ():
        option, sign, value = pair.partition("=")
        if not (option.strip() and sign and value.strip()):
            raise InputError(
                f"This is no parameter of {name}.",
                evidence=repr(pair),
                remedy="Write NAME:PARAMETER=VALUE, for example VAR:p=0.4.",
            )
        options[option.strip()] = value.strip()
    return find_fix(name, **options)


def _split(text: str, mark: str) -> list[str]:
    """The parts between marks that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == mark and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


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
