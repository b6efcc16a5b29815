"""Text from prompts, tokens and file names, made safe to look at: nothing invisible, nothing endless."""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that show nothing or turn text around: control, format, surrogate, line, paragraph."""


def head_name(layer: int | str, head: int | str) -> str:
    """A head, as a reader sees it everywhere; `layer` may carry its call.

    Example:
        >>> head_name(2, 3), head_name("3.1", 0)
        ('L2H3', 'L3.1H0')
    """
    return f"L{layer}H{head}"


def visible(text: str, *, limit: int | None = None) -> str:
    r"""`text` with control, bidirectional and zero-width characters as escapes, cut to `limit` characters.

    Example:
        >>> visible("a\u202eb\n")
        'a\\u202eb\\n'
        >>> visible("attention", limit=5)
        'atte…'
    """
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def shortened(text: str, *, longest: int = 40) -> str:
    """`text` with words of more than `longest` characters cut, so that the rest of a sentence stays in sight.

    Example:
        >>> shortened("loooooong takes 40 %", longest=5)
        'looo… takes 40 %'
    """
    return re.sub(rf"(\S{{{longest - 1}}})\S\S+", r"\1…", text)


def token_text(token: str, *, limit: int = 40) -> str:
    """A token for a table: `visible`, with the spaces at its ends, and the marks of tokenizers for them, as `␣`.

    Example:
        >>> token_text(" the")
        '␣the'
    """
    if not token:
        return "(empty)"
    word = token.lstrip("Ġ▁")
    token = " " * (len(token) - len(word)) + word
    lead = len(token) - len(token.lstrip(" "))
    tail = len(token) - len(token.rstrip(" ")) if lead < len(token) else 0
    spaced = "␣" * lead + token[lead : len(token) - tail] + "␣" * tail
    return visible(spaced, limit=limit)


def quoted_token(token: str) -> str:
    """A token within a sentence: in quotes, unless brackets of its own set it apart.

    Example:
        >>> quoted_token("The"), quoted_token("<s>")
        ('“The”', '<s>')
    """
    shown = token_text(token)
    return shown if len(shown) > 2 and shown[0] + shown[-1] in ("<>", "[]") else f"“{shown}”"


def word_starts(decoded: list[str]) -> list[int]:
    """Index of the first token of every word.

    Args:
        decoded: the text of the first 1, 2, 3, ... tokens.

    Example:
        >>> word_starts(["se", "set", "set timer"])
        [0, 2]
    """
    counts = [len(text.split()) for text in decoded]
    return [place for place, count in enumerate(counts) if count > (counts[place - 1] if place else 0)]


def shell_quote(argument: str) -> str:
    r"""`argument` quoted for a shell; what cannot be seen is written in bash's `$'…'` form.

    Example:
        >>> shell_quote("two words"), shell_quote("a\nb")
        ("'two words'", "$'a\\nb'")
    """
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = argument.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{visible(escaped)}'"


def command_line(*arguments: str) -> str:
    """The arguments as one line that can be pasted into a shell."""
    return " ".join(shell_quote(argument) for argument in arguments)


def _escape(character: str) -> str:
    if character in SHORT_ESCAPES:
        return SHORT_ESCAPES[character]
    if unicodedata.category(character) not in HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def complaint(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, where it stands, and how many more there are."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return visible(f"{place}: {first['msg']}" if place else first["msg"], limit=200) + more
