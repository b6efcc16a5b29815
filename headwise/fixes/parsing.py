"""Fixes as a command line writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import FixError, InputError
from headwise.fixes.binding import as_fixes
from headwise.fixes.registry import get
from headwise.fixes.spec.file import check_count, value_of
from headwise.fixes.spec.parameters import parameters_of
from headwise.fixes.spec.specs import fixes_of, load_spec
from headwise.plugins import (
    CONSTANTS,
    as_known,
    needed,
    read_options,
    split_call,
    split_outside_brackets,
)
from headwise.readers.json import MalformedError
from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


def read_fixes(
    given: Any, subject: Subject | PreTrainedModel | None = None, *, force: bool = False
) -> tuple[Any, ...]:
    """One fix or several; in place of each a text of `parse_fix` or the path of a spec may stand.

    Raises:
        InputError: as `parse_fix`.
        FixError: as `parse_fix`, or nothing is given.

    Example:
        >>> [type(fix).__name__ for fix in read_fixes(["VAR+VHR", "ACT"])]
        ['VAR', 'VHR', 'ACT']
    """
    found: list[Any] = []
    for fix in as_fixes(given):
        fix = parse_fix(os.fspath(fix), subject, force=force) if isinstance(fix, str | Path) else fix
        found += fix if isinstance(fix, tuple) else (fix,)
    return tuple(found)


def parse_fix(text: str, subject: Subject | PreTrainedModel | None = None, *, force: bool = False) -> Any:
    """Fixes from a command line: a name, a name with parameters, several joined by +, or the path of a spec.

    Args:
        text: see above.
        subject: a spec that was written for another model than this one is refused; None takes any.
        force: it is not, where the shapes fit.

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
    if text.lower().endswith(".json") or os.path.isfile(text):  # False where the text is too long for a path
        found = load_spec(text).fixes if subject is None else fixes_of(text, subject, force=force)
        return found[0] if len(found) == 1 else found
    _check_size(text)
    parts = map(split_call, split_outside_brackets(text, "+"))
    several = tuple(_fix(name, options) for name, options in parts)
    return several[0] if len(several) == 1 else several


def _check_size(text: str) -> None:
    content = text.encode("utf-8", "replace")
    require_within(len(content), current_limits().spec_bytes, "bytes", where="the text of a fix")
    try:
        check_count(content)
    except MalformedError as error:
        raise FixError(
            f"The text of a fix is too long: {error}.", remedy="Install it from Python with hw.patch."
        ) from error


def _fix(name: str, options: Mapping[str, str]) -> Any:
    kind = get(name)
    values = {option: _value(name, option, text) for option, text in options.items()}
    kinds = parameters_of(kind, name)
    unknown = [option for option in values if as_known(option, kinds) is None]
    try:
        values = read_options(name, kinds, values, source="call")
    except InputError as error:
        if unknown or "twice" in error.fact:
            raise
        raise FixError(error.fact, evidence=error.evidence, remedy=error.remedy) from error
    missing = needed(kind, values)
    if missing:
        raise InputError(
            f"The fix {name} needs a parameter.",
            evidence=", ".join(missing),
            remedy=f"For example {name}:{missing[0]}=VALUE.",
        )
    return kind(**values)


def _value(name: str, option: str, text: str) -> Any:
    """What JSON, or Python's True, False and None, says, as strictly as in a spec; else the text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    try:
        return value_of(text)
    except JSONDecodeError:
        return text
    except MalformedError as error:
        raise FixError(
            f"The parameter {option!r} of {name} cannot be {visible(text, limit=60)}.",
            evidence=str(error),
            remedy="Give a value of its kind.",
        ) from error
