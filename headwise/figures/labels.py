"""Text in figures: shown as it is, whatever is in it, and broken into lines that fit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from headwise.text import shortened, visible

LONGEST = 40
"""Characters of a label before its middle is left out."""
_SIGNS = {"$": "&#36;", "%{": "&#37;{"}
"""What plotly would take for a formula, or for the name of a value in a hover text."""


def label(text: object, *, limit: int = LONGEST) -> str:
    r"""`text` as plotly shows it letter by letter: no tags, no formulas, no values filled in, nothing invisible.

    Where it is longer than `limit`, its middle is left out.

    Example:
        >>> label("<b>$x$</b>\n")
        '&lt;b&gt;&#36;x&#36;&lt;/b&gt;\\n'
        >>> label("SCALE_HEADS:heads=[[0,0],[0,1]],factor=0.5", limit=24)
        'SCALE_HEADS…],factor=0.5'
    """
    return _escaped(visible(without_middle(str(text), limit=limit)))


def distinct(names: Iterable[object]) -> list[str]:
    r"""The labels of names that stand at places of their own: one that looks like an earlier one gets a prime.

    Example:
        >>> distinct(["\n", "\\n", "<"])
        ['\\n', '\\n′', '&lt;']
    """
    found: dict[str, None] = {}
    for text in map(label, names):
        while text in found:
            text += "′"
        found[text] = None
    return list(found)


def without_middle(text: str, *, limit: int = LONGEST) -> str:
    """`text` in at most `limit` characters, of which both ends stay.

    Example:
        >>> without_middle("SCALE_HEADS:heads=[[0,0],[0,1]],factor=0.5", limit=24)
        'SCALE_HEADS…],factor=0.5'
    """
    return text if len(text) <= limit else f"{text[: (limit - 1) // 2]}…{text[-(limit // 2) :]}"


def lines(text: str, *, width: int, most: int = 3) -> list[str]:
    """`text` as at most `most` escaped lines of about `width` characters.

    Example:
        >>> lines("mean over three examples", width=12)
        ['mean over', 'three', 'examples']
    """
    plain = shortened(visible(text, limit=2000), longest=width)
    broken = textwrap.wrap(plain, width, max_lines=most, placeholder=" …", break_on_hyphens=False)
    return [_escaped(line) for line in broken]


def said(name: str) -> str:
    """The name of a column or an analysis as words.

    Example:
        >>> said("normalised_entropy")
        'normalised entropy'
    """
    return name.replace("_", " ")


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "example"), counted(1200, "example")
        ('1 example', '1,200 examples')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def model_name(facts: Mapping[str, Any]) -> str:
    """The model's name in the provenance of a result or the manifest of an evaluation; empty where there is none.

    Example:
        >>> model_name({"model": {"name": "zoo:lm"}}), model_name({"model": "zoo:lm"}), model_name({})
        ('zoo:lm', 'zoo:lm', '')
    """
    model = facts.get("model")
    return str((model.get("name") if isinstance(model, Mapping) else model) or "")


def _escaped(text: str) -> str:
    text = escape(text, quote=False)
    for sign, written in _SIGNS.items():
        text = text.replace(sign, written)
    return text
