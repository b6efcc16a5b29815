"""Tables as HTML: every letter visible, nothing run, no classes needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd


def table(frame: pd.DataFrame, *, caption: str = "", limit: int | None = None) -> str:
    """The rows of a frame as an HTML table that needs no style sheet.

    Args:
        frame: the rows; the index is not shown.
        caption: said above it.
        limit: characters of a text before it is cut; None shows all.

    Example:
        >>> import pandas as pd
        >>> "&lt;b&gt;" in table(pd.DataFrame({"token": ["<b>"]}))
        True
    """
    return "".join(_rows(frame, caption, limit))


def cell_text(value: Any, *, limit: int | None = None) -> str:
    r"""A value as plain text: four digits, nothing for what is missing, every letter visible.

    Example:
        >>> cell_text(0.123456), cell_text(float("nan")), cell_text(12), cell_text("a\tb")
        ('0.1235', '', '12', 'a\\tb')
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool | Integral):
        return str(value)
    if isinstance(value, Real):
        return f"{value:.4g}"
    return visible(
        visible(str(value), limit=limit), limit=limit
    )  # what was hidden is longer when written out


def _rows(frame: pd.DataFrame, caption: str, limit: int | None) -> Iterator[str]:
    numeric = set(frame.select_dtypes("number").columns)
    sides = ["right" if name in numeric else "left" for name in frame]
    yield '<table border="0" cellpadding="4" style="border-collapse:collapse;font-size:13px">'
    if caption:
        yield f'<caption style="text-align:left">{escape(visible(caption, limit=200), quote=False)}</caption>'
    yield f"<thead><tr>{_cells(frame, 'th', sides, limit)}</tr></thead><tbody>"
    for row in frame.itertuples(index=False, name=None):
        yield f"<tr>{_cells(row, 'td', sides, limit)}</tr>"
    yield "</tbody></table>"


def _cells(values: Iterable[Any], tag: str, sides: Sequence[str], limit: int | None) -> str:
    """The cells of a row; `align` also counts where a host strips style sheets and inline styles."""
    return "".join(
        f'<{tag} align="{side}">{escape(cell_text(value, limit=limit), quote=False)}</{tag}>'
        for value, side in zip(values, sides, strict=True)
    )
