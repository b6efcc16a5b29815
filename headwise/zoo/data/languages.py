"""The nine languages of the translation model, and the codes that stand for them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from headwise.errors import InputError

VERSION = 1


@dataclass(frozen=True)
class Language:
    """A language of the phrases."""

    code: str
    """Of CLDR, two or three letters: `sw`."""
    tag: str
    """Of NLLB, the token that stands for the language: `swh_Latn`."""
    name: str
    family: str
    """The branch that is usually compared: English and German are both Germanic."""
    marks: str = ",:;."
    """Comma, colon, semicolon and full stop as the language writes them."""
    spaced: bool = True
    """False where words are written without spaces between them."""


ENGLISH = Language("en", "eng_Latn", "English", "Germanic")

LANGUAGES = (
    ENGLISH,
    Language("sw", "swh_Latn", "Swahili", "Bantu"),
    Language("ki", "kik_Latn", "Kikuyu", "Bantu"),
    Language("so", "som_Latn", "Somali", "Cushitic"),
    Language("luo", "luo_Latn", "Luo", "Nilotic"),
    Language("de", "deu_Latn", "German", "Germanic"),
    Language("tr", "tur_Latn", "Turkish", "Turkic"),
    Language("zh", "zho_Hans", "Chinese", "Sinitic", marks="，：；。", spaced=False),
    Language("hi", "hin_Deva", "Hindi", "Indo-Aryan", marks=",:;।"),
)

OTHERS = tuple(language.code for language in LANGUAGES[1:])
"""Codes of the eight languages that are paired with English."""

TAGS = tuple(language.tag for language in LANGUAGES)

_BY_NAME = {
    name.lower(): language for language in LANGUAGES for name in (language.code, language.tag, language.name)
}


def language_of(name: str) -> Language:
    """The language that a CLDR code, an NLLB tag or an English name stands for; letter case does not matter.

    Raises:
        InputError: it is none of the nine.

    Example:
        >>> language_of("sw").tag, language_of("kik_Latn").name, language_of("german").code
        ('swh_Latn', 'Kikuyu', 'de')
    """
    found = _BY_NAME.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), _BY_NAME, n=3)
        raise InputError(
            f"{name!r} is none of the languages of the phrases.",
            evidence=f"close to it: {', '.join(close)}" if close else "",
            remedy=f"Choose from {', '.join(language.code for language in LANGUAGES)}.",
        )
    return found
