"""Numbers as words: shares, ends of scales, cells of tables, addresses on the page."""

from __future__ import annotations

import math
from typing import Literal
from zlib import crc32

from headwise.text import head_name

Form = Literal["text", "token", "number", "share", "count", "address"]
"""How a column is shown: `share` lies in 0..1 and is shown in percent, `number` with three digits."""

Value = str | int | float | None
LONGEST_KEY = 60


def known(value: float) -> float | None:
    """A number, or None where it is NaN.

    Example:
        >>> known(0.5), known(float("nan"))
        (0.5, None)
    """
    return value if value == value else None


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten; 0 for what is no number above 0.

    Example:
        >>> round_up(0.47), round_up(3.9), round_up(0.0)
        (0.5, 4.0, 0.0)
    """
    if not 0 < value < math.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    rounded = (float(f"{step * power:.12g}") for step in steps)
    return next((end for end in rounded if value * (1 - 1e-9) <= end < math.inf), value)


def percent(share: float) -> str:
    """A share in whole percent, for prose.

    Example:
        >>> percent(0.416), percent(0.002), percent(0.0)
        ('42 %', '<1 %', '0 %')
    """
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def tick(value: float, form: Form) -> str:
    """An end of a colour scale.

    Example:
        >>> tick(0.0, "share"), tick(0.015, "share"), tick(40.0, "number")
        ('0 %', '1.5 %', '40')
    """
    return f"{100 * value:.3g} %" if form == "share" else f"{value:.3g}"


def show(value: Value, form: Form) -> str:
    """A table cell as text; a missing number is an en dash.

    Example:
        >>> show(0.4712, "share"), show(1234, "count"), show(float("nan"), "number")
        ('47.1 %', '1,234', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if form == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if form == "count" else f"{value:.3g}"


def group_key(tower: str, kind: str) -> str:
    """Name of a tower and kind in addresses, names of files and elements; other than letters, digits, `.` and `_`
    are written as their code.

    Example:
        >>> group_key("text", "self"), group_key("decoder", "cross"), group_key("a/b", "self")
        ('text', 'decoder-cross', 'a_2f_b')
    """
    name = "-".join(map(_plain, (tower,) if kind == "self" else (tower, kind)))
    return name if len(name) <= LONGEST_KEY else f"{name[:LONGEST_KEY]}_{crc32(name.encode()):08x}"


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._") else f"_{ord(c):x}_" for c in text) or "_"


def head_address(group: str, layer: str, head: int) -> str:
    """The address of a head on the page.

    Example:
        >>> head_address("text", "12", 7), head_address("text", "3.1", 0)
        ('head-text-12-07', 'head-text-03.1-00')
    """
    whole, dot, call = layer.partition(".")
    return f"head-{group}-{whole:0>2}{dot}{call}-{head:02d}"


def place_name(address: str) -> str:
    """What a link to a head or an example says.

    Example:
        >>> place_name("head-decoder-cross-03-02"), place_name("example-4")
        ('decoder-cross L3H2', 'example 4')
    """
    if not address.startswith("head-"):
        return address.replace("-", " ")
    group, layer, head = address.removeprefix("head-").rsplit("-", 2)
    whole, dot, call = layer.partition(".")
    return f"{group} {head_name(f'{int(whole)}{dot}{call}', int(head))}"
