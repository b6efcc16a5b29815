"""Phrases of CLDR in English and eight languages: drawn without end for training, shipped for evaluation.

A phrase is in the test split when the date and the amount in it are: those never occur in training. A day
without a year is held out as weekday, day and month together. Names of territories and currencies cannot be
guessed, so all occur in training; a territory that is held out is trained inside longer phrases only.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2s
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from headwise.errors import InputError
from headwise.files import replacing
from headwise.zoo.data.cldr import (
    currencies,
    date_segments,
    has_cents,
    money_segments,
    territories,
    territory_segment,
)
from headwise.zoo.data.languages import ENGLISH, OTHERS, Language, language_of
from headwise.zoo.data.phrase import Phrase, PhrasePair, Segment

VERSION = 1

SPLITS = ("train", "validation", "test")

KINDS = {
    "full": 2,
    "long": 1,
    "day": 1,
    "territory": 1,
    "amount": 1,
    "territory_date": 1,
    "date_amount": 1,
    "territories_amount": 1,
}
"""Kinds of phrase, with the shares in which validation and test phrases are drawn."""

SHIPPED = "phrases_test.jsonl.gz"
SHIPPED_SIZES = {"validation": 100, "test": 300}
"""Phrases per language in the shipped file."""

Drawn = TypeVar("Drawn")

FIRST_DAY, DAYS = date(1950, 1, 1), 36_000
"""Dates run from 1950 to the middle of 2048."""


def split_of(key: str) -> str:
    """The split of a date, a day, an amount or a territory: one in ten is test, one in twenty validation.

    Example:
        >>> split_of("date/2021-03-14"), split_of("amount/12.5")
        ('train', 'train')
    """
    number = int.from_bytes(blake2s(key.encode(), digest_size=4).digest(), "big") % 100
    return "test" if number < 10 else "validation" if number < 15 else "train"


def keys_of(pair: PhrasePair) -> list[str]:
    """What decides the split of a pair; all of them are of the same split."""
    facts = pair.facts
    if pair.kind == "territory":
        return [f"territory/{facts['territories'][0]}"]
    if pair.kind == "day":
        return [_day_key(date.fromisoformat(facts["date"]))]
    keys = [f"date/{facts['date']}"] if "date" in facts else []
    return keys + ([f"amount/{facts['amount']:g}"] if "amount" in facts else [])


def draw_pair(rng: random.Random, language: str, split: str, kind: str | None = None) -> PhrasePair:
    """A phrase in English and, as its target, in another language.

    Args:
        rng: where the random numbers come from.
        language: code, tag or name of one of the eight other languages.
        split: "train", "validation" or "test".
        kind: one of `KINDS`; drawn from their shares if left out.

    Raises:
        InputError: the language, the split or the kind is unknown, or babel is not installed.

    Example:
        >>> pair = draw_pair(random.Random(1), "sw", "train", "full")
        >>> pair.source.text, pair.target.text
        ('Saturday, February 9, 1974', 'Jumamosi, 9 Februari 1974')
    """
    other = _other(language)
    _check(split, SPLITS, "split")
    if kind is None:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    _check(kind, tuple(KINDS), "kind")
    facts = _draw_facts(rng, other.code, split, kind)
    source, target = (Phrase(one.code, tuple(_segments(kind, facts, one))) for one in (ENGLISH, other))
    return PhrasePair("", kind, source, target, facts)


def draw_pairs(language: str, n: int, *, split: str, seed: int) -> list[PhrasePair]:
    """`n` different phrases of a language, with ids such as `sw/test/12`; the same for the same seed and CLDR."""
    rng = random.Random(f"phrases/{VERSION}/{language}/{split}/{seed}")
    found: dict[str, PhrasePair] = {}
    while len(found) < n:
        pair = draw_pair(rng, language, split)
        found.setdefault(pair.source.text, pair)
    code = language_of(language).code
    return [
        PhrasePair(f"{code}/{split}/{number}", pair.kind, pair.source, pair.target, pair.facts)
        for number, pair in enumerate(found.values())
    ]


def shipped_pairs(language: str, split: str = "test") -> list[PhrasePair]:
    """Held-out phrases that come with headwise: 300 of the test split, 100 of the validation split.

    They are the same whatever release of babel is installed, and need none.

    Args:
        language: code, tag or name of one of the eight other languages; English is the source.
        split: "test" or "validation".

    Raises:
        InputError: the language or the split is unknown.

    Example:
        >>> pair = shipped_pairs("zh")[0]
        >>> pair.id, pair.source.language, pair.target.language
        ('zh/test/0', 'en', 'zh')
    """
    code = _other(language).code
    _check(split, tuple(SHIPPED_SIZES), "split")
    return [pair for pair in _shipped() if pair.id.startswith(f"{code}/{split}/")]


def write_shipped(path: Path) -> None:
    """Draw the phrases that are shipped and write them to `path`, one JSON object per line, gzipped."""
    import babel

    lines: list[dict[str, Any]] = [{"version": VERSION, "babel": babel.__version__}]
    for code in OTHERS:
        for split, n in SHIPPED_SIZES.items():
            lines += [_to_json(pair) for pair in draw_pairs(code, n, split=split, seed=0)]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    with replacing(path) as part:
        part.write_bytes(gzip.compress(text.encode(), mtime=0))


@lru_cache(maxsize=1)
def _shipped() -> tuple[PhrasePair, ...]:
    packed = resources.files("headwise.zoo.data").joinpath(SHIPPED).read_bytes()
    _, *lines = gzip.decompress(packed).decode().splitlines()
    return tuple(_from_json(json.loads(line)) for line in lines)


def _to_json(pair: PhrasePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "kind": pair.kind,
        **{
            phrase.language: [[segment.text, segment.slot] for segment in phrase.segments]
            for phrase in (pair.source, pair.target)
        },
        "facts": pair.facts,
    }


def _from_json(row: dict[str, Any]) -> PhrasePair:
    code = row["id"].partition("/")[0]
    source, target = (
        Phrase(language, tuple(Segment(text, slot) for text, slot in row[language]))
        for language in (ENGLISH.code, code)
    )
    return PhrasePair(row["id"], row["kind"], source, target, row["facts"])


def _draw_facts(rng: random.Random, code: str, split: str, kind: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if kind == "territories_amount":
        facts["territories"] = rng.sample(territories(code), 2)
    elif kind == "territory_date":
        facts["territories"] = [rng.choice(territories(code))]
    elif kind == "territory":
        place = _held(lambda: rng.choice(territories(code)), lambda place: f"territory/{place}", split)
        facts["territories"] = [place]
    if kind in ("full", "long", "day", "territory_date", "date_amount"):
        key = _day_key if kind == "day" else lambda day: f"date/{day.isoformat()}"
        day = _held(lambda: FIRST_DAY + timedelta(days=rng.randrange(DAYS)), key, split)
        facts["date"] = day.isoformat()
    if kind in ("amount", "date_amount", "territories_amount"):
        facts["currency"] = currency = rng.choice(currencies(code))
        facts["amount"] = _held(lambda: _amount(rng, currency), lambda amount: f"amount/{amount:g}", split)
    return facts


def _held(draw: Callable[[], Drawn], key: Callable[[Drawn], str], split: str) -> Drawn:
    """Draw until it is of the split."""
    while split_of(key(drawn := draw())) != split:
        pass
    return drawn


def _amount(rng: random.Random, currency: str) -> float:
    """From 2 to 9,999, as often below a hundred as above; halves for currencies that have cents."""
    size = rng.choice(("small", "large", "half") if has_cents(currency) else ("small", "large"))
    if size == "half":
        return rng.randrange(2, 1000) + 0.5
    return rng.randrange(2, 100) if size == "small" else rng.randrange(100, 10_000)


def _day_key(day: date) -> str:
    return f"day/{day:%m-%d}/{day.weekday()}"


def _segments(kind: str, facts: dict[str, Any], language: Language) -> Iterator[Segment]:
    code = language.code
    comma, colon, semicolon, stop = (
        Segment(mark, f"mark.{number}") for number, mark in enumerate(language.marks)
    )
    gap = [Segment(" ")] if language.spaced else []
    day = date.fromisoformat(facts["date"]) if "date" in facts else None
    places = [
        territory_segment(place, code, f"territory.{number}")
        for number, place in enumerate(facts.get("territories", []))
    ]
    money = money_segments(facts["amount"], facts["currency"], code) if "amount" in facts else []
    match kind:
        case "full" | "long" | "day" if day:
            yield from date_segments(day, kind, code)
        case "territory":
            yield places[0]
        case "amount":
            yield from money
        case "territory_date" if day:
            yield from [places[0], comma, *gap, *date_segments(day, "full", code), stop]
        case "date_amount" if day:
            yield from [*date_segments(day, "long", code), colon, *gap, *money, stop]
        case _:
            yield from [places[0], comma, *gap, places[1], semicolon, *gap, *money, stop]


def _other(language: str) -> Language:
    found = language_of(language)
    if found == ENGLISH:
        raise InputError(
            "English is the source of every phrase.", remedy=f"Name the other language: {', '.join(OTHERS)}."
        )
    return found


def _check(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise InputError(
            f"There is no {what} {name!r} of phrases.", remedy=f"Choose from {', '.join(known)}."
        )
