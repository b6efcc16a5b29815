"""A page that leads to several reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwise.files import replacing
from headwise.reports.page.page import environment, style


@dataclass(frozen=True)
class Entry:
    """One report in an index."""

    title: str
    page: str
    """Relative to the index."""
    verdict: Sequence[str]
    command: str
    """The command line that made it."""


def write_index(entries: Sequence[Entry], path: Path, *, title: str) -> Path:
    """Write a page with the verdict of every report and a link to it; whole or not at all.

    Raises:
        InputError: when the folder of `path` does not exist.
    """
    from markupsafe import Markup

    template = environment().get_template("index.html.j2")
    text = template.render(entries=entries, title=title, style=Markup(style()))
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
