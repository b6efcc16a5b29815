"""Forms of Unicode of a text from others, at a cost that its length bounds."""

from __future__ import annotations

import re
from collections import Counter
from unicodedata import combining, normalize

from headwise.readers.limits import current_limits, require_within
from headwise.text import visible

_MARKS = 30
"""Marks in a row, beyond which no language goes."""
_SHORT = 100
"""Letters that any text may have, written out."""
_JOINER = "\u034f"
"""Shows nothing, and ends a row of marks."""


def compatible(text: str) -> str:
    """A text in the form NFKC, in which letters that mean the same are the same.

    Raises:
        InputError: as `stream_safe`.

    Example:
        >>> compatible("ﬁve")
        'five'
    """
    return normalize("NFKC", stream_safe(text))


def stream_safe(text: str) -> str:
    """A text whose normal forms take time and memory in line with its length: the Stream-Safe Text Format.

    Marks in a row are sorted when a text is normalised, which takes time with the square of their number; behind every
    30 of them stands U+034F, combining grapheme joiner (Unicode Standard Annex #15, section 13). Other texts stay as
    they are.

    Raises:
        InputError: written out it has more letters for one than the limit; U+FDFA is 18 letters.

    Example:
        >>> stream_safe("e" + "\u0301" * 31).count("\u034f"), stream_safe("Việt")
        (1, 'Việt')
    """
    if text.isascii():
        return text
    counts = Counter(text)
    forms = {letter: normalize("NFKD", letter) for letter in counts}
    length = sum(len(forms[letter]) * count for letter, count in counts.items())
    most = _SHORT + current_limits().text_growth * len(text)
    where = f"a text that begins with {visible(text, limit=40)!r}"
    require_within(length, most, "letters, written out", where=where)
    marks = "".join(letter for letter, form in forms.items() if combining(form[0]))
    return re.sub(f"([{marks}]{{{_MARKS}}})(?=[{marks}])", rf"\1{_JOINER}", text) if marks else text
