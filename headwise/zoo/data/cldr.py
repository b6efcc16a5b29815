"""Dates, territories and amounts of money in many languages, cut into segments, from CLDR by way of babel."""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from headwise.errors import InputError
from headwise.zoo.data.phrase import Segment

if TYPE_CHECKING:
    from babel import Locale

VERSION = 1

# fmt: off
CURRENCIES = (
    "USD", "EUR", "GBP", "JPY", "CNY", "INR", "KES", "TZS", "UGX", "ETB", "SOS", "ZAR",
    "NGN", "EGP", "GHS", "RWF", "BIF", "ZMW", "MWK", "SDG", "TRY", "CHF", "CAD", "AUD",
)
# fmt: on

NOT_PLACES = {"ZZ", "XA", "XB"}
"""Unknown region, and two made-up ones for testing software."""

FIELDS = {"E": "weekday", "d": "day", "M": "month", "y": "year"}


@lru_cache(maxsize=16)
def locale_of(code: str) -> Locale:
    """The CLDR data of a language.

    Raises:
        InputError: babel is not installed.
    """
    try:
        from babel import Locale
    except ImportError as error:
        raise InputError(
            "New phrases are made with babel, which is not installed.", remedy="pip install babel"
        ) from error
    return Locale.parse(code)


@lru_cache(maxsize=16)
def territories(code: str) -> tuple[str, ...]:
    """Codes of the territories that have a name both in English and in this language."""
    names, english = locale_of(code).territories, locale_of("en").territories
    return tuple(
        sorted(
            place
            for place in map(str, names)
            if re.fullmatch("[A-Z]{2}", place) and place not in NOT_PLACES and place in english
        )
    )


@lru_cache(maxsize=16)
def currencies(code: str) -> tuple[str, ...]:
    """Codes of the currencies that have a name both in English and in this language."""
    return tuple(name for name in CURRENCIES if name in locale_of(code).currencies)


def has_cents(currency: str) -> bool:
    """True for a currency that is written with two decimals."""
    from babel.numbers import get_currency_precision

    return get_currency_precision(currency) == 2


def date_segments(day: datetime.date, style: str, code: str) -> list[Segment]:
    """A date, field by field in the order of the language.

    Args:
        day: the date.
        style: "full" (weekday, day, month, year), "long" (no weekday) or "day" (no year).
        code: the language.

    Returns:
        Segments that together are what babel's `format_date` gives. What is written onto a field (年, or the
        point of "14.") belongs to it; commas have the slot `mark.date`.

    Example:
        >>> [segment.text for segment in date_segments(datetime.date(2021, 3, 14), "full", "de")]
        ['Sonntag', ',', ' ', '14.', ' ', 'März', ' ', '2021']
    """
    made: list[Segment] = []
    for kind, value in _date_pattern(style, code):
        if kind == "field":
            made.append(Segment(_date_field(day, value, code), FIELDS[value[0]]))
            continue
        for part in re.findall(r"\s+|[,，、]+|[^\s,，、]+", value):
            if part.isspace():
                made.append(Segment(plain(part)))
            elif part[0] in ",，、":
                made.append(Segment(part, "mark.date"))
            else:
                made[-1] = Segment(made[-1].text + part, made[-1].slot)
    return made


def money_segments(amount: float, currency: str, code: str) -> list[Segment]:
    """An amount and the name of its currency, in the order of the language.

    Example:
        >>> [(segment.text, segment.slot) for segment in money_segments(5, "KES", "sw")]
        [('shilingi za Kenya', 'currency'), (' ', ''), ('5.00', 'amount')]
    """
    from babel.numbers import get_currency_name, get_currency_unit_pattern, parse_pattern

    locale = locale_of(code)
    number = parse_pattern(locale.decimal_formats[None]).apply(amount, locale, currency=currency)
    parts = {
        "{0}": Segment(plain(number), "amount"),
        "{1}": Segment(plain(get_currency_name(currency, count=amount, locale=locale)), "currency"),
    }
    pattern = get_currency_unit_pattern(currency, count=amount, locale=locale)
    return [parts.get(part) or Segment(plain(part)) for part in re.split(r"(\{\d\})", pattern) if part]


def territory_segment(place: str, code: str, slot: str = "territory") -> Segment:
    """The name of a territory.

    Example:
        >>> territory_segment("DE", "so").text
        'Jarmal'
    """
    return Segment(plain(locale_of(code).territories[place]), slot)


def plain(text: str) -> str:
    """No-break and narrow spaces as plain ones, one for one."""
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@lru_cache(maxsize=64)
def _date_pattern(style: str, code: str) -> tuple[tuple[str, Any], ...]:
    from babel.dates import get_date_format, tokenize_pattern

    locale = locale_of(code)
    if style != "day":
        return tuple(tokenize_pattern(get_date_format(cast(Any, style), locale).pattern))
    wide: dict[Any, Any] = {("E", 1): ("E", 4), ("M", 3): ("M", 4)}
    short = tokenize_pattern(locale.datetime_skeletons["MMMEd"].pattern)
    return tuple((kind, wide.get(value, value) if kind == "field" else value) for kind, value in short)


def _date_field(day: datetime.date, field: tuple[str, int], code: str) -> str:
    from babel.dates import format_date

    return plain(format_date(day, field[0] * field[1], locale=locale_of(code)))
