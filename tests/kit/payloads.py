"""Strings that would run, fetch or turn around if a page took them for more than text, in every string of a value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pandas as pd

import headwise as hw
from headwise.evaluation.statistics.estimate import Estimate
from headwise.evaluation.statistics.paired import Difference
from headwise.figures.chart import Chart
from headwise.layout import TokenLayout
from headwise.probes.attach.sites import Site
from headwise.reports.content import content as page_content
from headwise.reports.content import shown_example, word_map
from headwise.reports.content.content import Content, Finding
from headwise.reports.page.index import Entry
from headwise.text import visible

PAYLOADS = (
    "<script>ran=1</script>",
    "</script><script>ran=1</script>",
    "<img src=x onerror=ran=1>",
    "\"'><svg/onload=ran=1>",
    "javascript:ran=1//",
    '<a href="javascript:ran=1">x</a>',
    "<a href='https://h.test/'>x</a>",
    "{{ran=1}}${ran=1}#{ran=1}",
    "{% if 1 %}x{% endif %}{# x #}",
    "<!--<script>ran=1",
    "--><img src=x onerror=ran=1>",
    "]]><script>ran=1</script><![CDATA[",
    "a\u2028ran=1\u2029b",
    "\x00<\x00script>\x1b[31m",
    "\ud800 \udfff",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "url(https://h.test/x)",
    "x:expression(ran=1)",
    "</style><style>*{color:red}",
    ";}body{background:url(//h.test)}",
    "%{customdata}%{x}%{y:.1f}%{z}",
    "<b>b</b><br><sup>x</sup><extra>",
    "$\\href{javascript:ran=1}{x}$",
    "[x](javascript:ran=1) **b** `c`",
    "<iframe srcdoc='<script>ran=1'>",
    "&lt;b&gt; &amp;#60; &#60;b&#62;",
    "</title></textarea></noscript><p>",
    "a\nb\tc\rd",
    "__proto__",
    "constructor",
)
"""None is longer than 36 letters, so that most places show it whole."""
HALVES = re.compile("[\ud800-\udfff]")
MARK = re.compile("¦([0-9]+)¦")
COLUMNS = (
    "tower kind layer head example call position sender receiver metric arm unit difference difference_low "
)
COLUMNS += (
    "difference_high id prompt answer response tokens task filter value stderr n version trial low high "
)
NAMES = "model name warnings notes versions seed input logits none space validation_ids ids refused best_trial lm_eval"
KEPT = frozenset(
    f"{COLUMNS} {NAMES} dtype attention call unreached fallback created parameters epsilon".split()
)
"""Columns and entries of a manifest, which are looked up."""
STRUCTURE = {
    Estimate: frozenset({"method"}),
    Difference: frozenset({"method"}),
    Chart: frozenset({"kind"}),
    Site: frozenset({"kind"}),
    Content: frozenset({"spec"}),
    Finding: frozenset({"figure"}),
    page_content.HeadMap: frozenset({"key"}),
    page_content.MapPanel: frozenset({"group", "layers"}),
    page_content.Group: frozenset({"key", "layers"}),
    word_map.WordCell: frozenset({"address"}),
    word_map.WordPanel: frozenset({"group", "layers"}),
    word_map.WordMap: frozenset({"key"}),
    page_content.Table: frozenset({"key"}),
    page_content.Column: frozenset({"name", "form"}),
    shown_example.Token: frozenset({"role"}),
    shown_example.Picture: frozenset({"image", "group"}),
    shown_example.Sound: frozenset({"image", "audio"}),
    shown_example.Matrix: frozenset({"group"}),
    Entry: frozenset({"page"}),
}
"""What is no text: choices among few words (no file may say another method), addresses within a page, pictures and
markup that headwise made."""


@dataclass
class Hostile:
    """Puts payloads in the place of strings: the same one in the place of the same string, so that names still fit.

    Args:
        turn: which payload the first string gets; over as many turns as there are payloads every string has had all.
        kept: strings that are looked up by name, such as those of columns.
        halves: whether payloads may hold halves of characters.
        structure: class -> fields that are no text: addresses on the page, choices among few words, markup of our own.
    """

    turn: int = 0
    kept: frozenset[str] = frozenset()
    structure: Mapping[type, frozenset[str]] = field(default_factory=dict)
    halves: bool = True
    written: dict[str, int] = field(default_factory=dict)
    """What stood in a place before -> the number of what stands there now."""
    places: set[str] = field(default_factory=set)
    """Fields whose strings were replaced, as `Class.field`."""

    def text(self, text: str) -> str:
        """A payload and the number by which it is found again."""
        if text in self.kept or not text:
            return text
        number = self.written.setdefault(text, len(self.written))
        return f"{self.payload(number)}¦{number}¦"

    def payload(self, number: int) -> str:
        """The payload before this number."""
        found = PAYLOADS[(self.turn + number) % len(PAYLOADS)]
        return found if self.halves else HALVES.sub("/", found)

    def of(self, value: Any, place: str = "") -> Any:
        """A value with payloads in all its strings, down to mappings, tables and dataclasses."""
        if isinstance(value, str):
            self.places.add(place)
            return self.text(value)
        if isinstance(value, hw.Trace):
            records = {self.of(site): record for site, record in value.records.items()}
            return hw.Trace(
                records, TokenLayout(self.of(value.layout.axes, "Trace.axes")), self.of(value.meta)
            )
        if isinstance(value, pd.DataFrame):
            words = value.select_dtypes(["object", "str"]).columns
            cells = value.assign(
                **{name: pd.Series(map(self.of, value[name]), value.index, dtype=object) for name in words}
            )
            return cells.rename(columns=self.text)
        if isinstance(value, Mapping):
            return {self.of(name, place): self.of(item, place) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(item, place) for item in value)
        if is_dataclass(value) and not isinstance(value, type):
            kept = {name for kind in type(value).__mro__ for name in self.structure.get(kind, ())}
            own = type(value).__name__
            names = [one.name for one in fields(value) if one.init and one.name not in kept]
            return replace(value, **{name: self.of(getattr(value, name), f"{own}.{name}") for name in names})
        return value

    def altered(self, shown: list[str]) -> list[tuple[int, str]]:
        """What stands before the marks in texts of a page, where that is not what was written.

        Spaces, ends of lines, capitals and underscores may differ, and the middle of a long text may be left out.
        """
        found = []
        for text in shown:
            start = 0
            for mark in MARK.finditer(text):
                number = int(mark[1])
                before = _even(text[start : mark.start()]).rpartition("…")
                start = mark.end()
                payload = self.payload(number)
                in_json = json.dumps(payload, ensure_ascii=False)[1:-1]
                forms = [_even(visible(form)) for form in (payload, in_json)]
                cut = bool(before[1]) and any(form.endswith(before[2]) for form in forms)
                if not cut and not before[2].endswith(tuple(forms)):
                    found.append((number, text))
        return found


def _even(text: str) -> str:
    return re.sub(r"\s|_|␣|\\n", "", text).casefold()
