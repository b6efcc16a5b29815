"""Fixes as a command line writes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headwise.fixes.registry import find_fix
from headwise.fixes.spec.specs import fixes_of, load_spec
from headwise.plugins import split_call, split_outside_brackets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


def parse_fix(text: str, subject: Subject | PreTrainedModel | None = None) -> Any:
    """Fixes from a command line: a name, a name with parameters, several joined by +, or the path of a spec.

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
        found = load_spec(text).fixes if subject is None else fixes_of(text, subject)
        return found[0] if len(found) == 1 else found
    parts = map(split_call, split_outside_brackets(text, "+"))
    several = tuple(find_fix(name, **options) for name, options in parts)
    return several[0] if len(several) == 1 else several
