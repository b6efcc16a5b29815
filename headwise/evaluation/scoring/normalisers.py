"""What is done to transcripts before they are compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from headwise.errors import InputError
from headwise.optional import extra
from headwise.readers.content import shown
from headwise.readers.json import read_json
from headwise.readers.unicode import stream_safe
from headwise.text import visible

SCORED = "Transcription is scored"
Normaliser = Literal["none", "basic", "whisper", "whisper-english"]
_BETWEEN = r"[-\u2010-\u2015/:_]|(?<=\d)\.(?=\d)"
"""Marks that set words apart, and are not a part of one as an apostrophe is."""


def check_normaliser(name: str) -> None:
    """Refuse a way to normalise that there is not.

    Raises:
        InputError: it is not one of `Normaliser`.
    """
    if name not in get_args(Normaliser):
        remedy = ", ".join(get_args(Normaliser))
        raise InputError("There is no such normaliser.", evidence=repr(name), remedy=f"One of {remedy}.")


def normaliser(name: Normaliser, *, spellings: Path | None = None) -> Callable[[str], str]:
    """What is done to a transcript before it is compared.

    Args:
        name: which; see `Transcription`.
        spellings: `normalizer.json` of a Whisper tokenizer, for `whisper-english`.

    Raises:
        InputError: the file is missing, or does not hold words and their spellings.

    Example:
        >>> normaliser("basic")("Hello,  World!"), normaliser("none")("Hello,  World!")
        ('hello world', 'Hello,  World!')
    """
    if name == "none":
        return str
    if name in ("whisper", "whisper-english"):
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

        whisper = BasicTextNormalizer() if name == "whisper" else EnglishTextNormalizer(_spellings(spellings))
        return lambda text: _by_whisper(whisper, text)
    jiwer = extra("jiwer", SCORED)
    between = jiwer.SubstituteRegexes({_BETWEEN: " "})
    plain = (jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces(), jiwer.Strip())
    return jiwer.Compose([between, *plain])


def _by_whisper(whisper: Callable[[str], str], text: str) -> str:
    """What a normaliser of Whisper makes of a text: what would take it time with the square is done before.

    Raises:
        InputError: it fails, as on a number of thousands of digits.
    """
    text = " ".join(stream_safe(text).split())
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", _without_end(text, "<[", ">]"))
    try:
        return whisper(_without_end(text, "(", ")")).strip()
    except ValueError as error:
        raise InputError(
            "Whisper's normaliser fails on this text.",
            evidence=f"{visible(text, limit=60)!r}: {error}",
            remedy="Correct the transcript, or use another normaliser.",
        ) from error


def _without_end(text: str, opening: str, closing: str) -> str:
    """A text whose brackets that open and never close are closing ones: either becomes a blank later."""
    end = max(map(text.rfind, closing)) + 1
    return text[:end] + text[end:].translate(str.maketrans(opening, closing))


def _spellings(path: Path | None) -> dict[str, str]:
    """British word -> American word."""
    found = {} if path is None else read_json(path)
    if not isinstance(found, dict) or not all(isinstance(word, str) for word in found.values()):
        raise InputError(
            "The spellings are not pairs of words.",
            evidence=shown(Path(path or "")),
            remedy="Give the normalizer.json of a Whisper tokenizer.",
        )
    return found
