"""Docstrings say `Example:`; the parser of Google docstrings knows `Examples:`, whose doctests it sets as code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Renames the section while docstrings are read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Every module, class, function and attribute passes here."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
