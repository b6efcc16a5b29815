"""Strings that would run, fetch or turn around, in every string of what headwise shows, are text and only text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import headwise as hw
from headwise.figures.graph import Graph
from headwise.figures.intervals import Interval, Panel
from headwise.reports.collect.words import word_map_of
from headwise.reports.content import content as page_content
from headwise.reports.content import shown_example, word_map
from headwise.reports.content.content import Content, Finding, Flip
from headwise.reports.page.index import Entry, write_index
from headwise.reports.page.page import write_page
from tests.kit.browser import MARKS
from tests.kit.payloads import HALVES, KEPT, PAYLOADS, STRUCTURE, Hostile
from tests.kit.reports import META, sink_trace, zoo_content
from tests.kit.results import every_kind
from tests.kit.stored import comparison, evaluation, harness_result, search
from tests.kit.watched import HOVER, Watched

pytestmark = MARKS

TURNS = range(0, len(PAYLOADS), 3)


@pytest.fixture
def watch(browser, tmp_path) -> Iterator[Any]:
    """Open windows by their options; all are closed behind the test."""
    opened = []

    def start(**options: Any) -> Watched:
        opened.append(Watched(browser, tmp_path, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.page.context.close()


FOUND = {
    **every_kind(),
    "curve over words": replace(
        every_kind()["curve"],
        frame=every_kind()["curve"].frame.assign(size=["few", "more", "many", "few", "more", "many"]),
    ),
    "evaluation": evaluation(),
    "comparison": comparison(),
    "search": search(),
}
DRAWN = ("heads", "token by source", "classes", "curve over words", "rows", "edges", "difference", "search")


def hostile_table(name: str, turn: int) -> tuple[Hostile, Any]:
    """Payloads in everything that one kind of result says; tables of pandas hold no half characters."""
    hostile = Hostile(turn, KEPT, STRUCTURE, halves=False)
    return hostile, hostile.of(FOUND.get(name) or harness_result())


@pytest.mark.parametrize("name", FOUND)
def test_figures_show_text_as_text(watch, tmp_path, name):
    window, place = watch(), list(FOUND).index(name)
    for turn in range(place % 7, len(PAYLOADS), 7):
        hostile, found = hostile_table(name, turn)
        window.page.goto(found.save(tmp_path / "f.html").as_uri())
        shown = window.check(hostile, window.page.evaluate(HOVER))
        assert len(shown) >= min(5, len(hostile.written))


@pytest.mark.parametrize("name", FOUND)
def test_figures_without_scripts_show_text_as_text(watch, tmp_path, name):
    window = watch(java_script_enabled=False)
    hostile, found = hostile_table(name, list(FOUND).index(name))
    window.page.goto(found.save(tmp_path / "f.html").as_uri())
    window.check(hostile)


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_show_text_as_text(watch, tmp_path, monkeypatch, name):
    pytest.importorskip("kaleido", reason="kaleido draws pictures")
    from tests.kit.browser import BROWSER

    monkeypatch.setenv("BROWSER_PATH", str(BROWSER))
    hostile, found = hostile_table(name, 7 * list(FOUND).index(name))
    window = watch()
    window.page.goto(found.save(tmp_path / "f.svg").as_uri())
    assert window.check(hostile)


@pytest.mark.parametrize("turn", TURNS)
def test_cells_show_text_as_text(watch, tmp_path, turn):
    """A notebook puts no policy around a cell."""
    window, page = watch(), tmp_path / "f.html"
    hostile = Hostile(turn, KEPT, STRUCTURE, halves=False)
    everything = [hostile.of(found) for found in (*FOUND.values(), harness_result(), whole_trace())]
    assert all(repr(found).isprintable() for found in everything)
    cells = [found._repr_html_() for found in everything]
    assert not [cell for cell in cells if "\n\n" in cell]  # where HTML within Markdown would end
    page.write_text(f"<!doctype html><meta charset=utf-8>{''.join(cells)}", encoding="utf-8")
    window.page.goto(page.as_uri())
    assert len(window.check(hostile)) > 40


def whole_trace() -> hw.Trace:
    """A trace with much to say of itself."""
    return sink_trace(meta=META | {"revision": "abc", "task": "a task", "device": "cpu", "ids": ["one"]})


def whole_content() -> Content:
    """A page with something of everything that it can say."""
    seen, heard, read = map(zoo_content, ("vlm", "speech", "nmt"))
    graph = Graph("Circuit", (("input", -1, 0.5), ("L0H1", 0, 0.75)), (("input", "L0H1", 0.5),), "logits")
    said = Finding("A finding", "It says so.", "<p>drawn</p>", "How to read it.")
    words = word_map_of(hw.analyses.head_kinds(hw.load("zoo:vlm"), prompts=("repeats",), sequences=1))
    groups = {group.key: group for group in (*read.groups, *heard.groups, *seen.groups)}
    others = [
        next(one for one in heard.examples if one.sound and one.matrix),
        next(one for one in read.examples if one.matrix),
    ]
    return replace(
        seen,
        title="A model",
        warnings=("A warning", "Another"),
        examples=(*seen.examples, *(replace(one, number=3 + more) for more, one in enumerate(others))),
        groups=tuple(groups.values()),
        words=(words,),
        graphs=(graph,),
        findings=(said, replace(said, title="Another finding", figure="")),
        call="hw.report(model)",
        command="headwise report model",
        comparisons=tuple(
            replace(item, flips=item.flips or (Flip("VAR", "why?", "a", "b", "c", "right → wrong"),))
            for item in seen.comparisons
        ),
    )


def hostile_content(turn: int) -> tuple[Hostile, Content]:
    """Payloads in every string of a page but its addresses."""
    content = whole_content()
    addresses = {
        str(cell)
        for table in content.tables
        for row in table.rows
        for cell in row
        if str(cell).startswith("head-")
    }
    addresses |= {address for headline in content.headlines for _, address in headline.links}
    hostile = Hostile(turn, frozenset(addresses), STRUCTURE, halves=False)
    return hostile, hostile.of(content)


def test_payloads_reach_every_string_of_a_page():
    """A field that a page gains is found here: give `whole_content` a value for it."""
    hostile, _ = hostile_content(0)
    classes = [
        found
        for module in (page_content, shown_example, word_map)
        for found in vars(module).values()
        if dataclasses.is_dataclass(found)
    ]
    texts = {
        f"{kind.__name__}.{field.name}"
        for kind in (*classes, Graph, Interval, Panel)
        for field in dataclasses.fields(kind)
        if "str" in str(field.type) and field.name not in STRUCTURE.get(kind, ())
    }
    assert texts - hostile.places == set()


@pytest.mark.parametrize("turn", TURNS)
def test_reports_show_text_as_text(watch, tmp_path, turn):
    hostile, content = hostile_content(turn)
    window = watch(viewport={"width": 1280, "height": 900})
    page, limit = window.page, 1 if turn % 2 else 10_000_000
    page.goto(write_page(content, tmp_path / "r.html", limit=limit).path.as_uri())
    page.wait_for_selector("#map-0-0 canvas")
    shown = window.check(hostile)
    # what is not on the page but after a click: positions of patterns, and units of maps of shares
    assert len(shown) > 0.8 * len(hostile.written)
    for part in page.locator("details > summary").all():
        part.click()
    page.locator("[name=view][value=difference]").check()
    page.locator("[name=sinks][value=without]").check()
    for group in content.groups:
        page.evaluate("address => (location.hash = address)", f"head-{group.key}-00-01-example-1")
        page.wait_for_function("() => document.querySelector('#head h2')?.textContent.includes('L0H1')")
        for canvas in page.locator("#head canvas, .matrix canvas").all():
            canvas.focus()
            page.keyboard.press("ArrowRight")
        shown |= window.check(hostile)


def test_reports_without_scripts_show_text_as_text(watch, tmp_path):
    window = watch(java_script_enabled=False)
    for turn in range(0, len(PAYLOADS), 7):
        hostile, content = hostile_content(turn)
        window.page.goto(write_page(content, tmp_path / "r.html").path.as_uri())
        window.check(hostile)


@pytest.mark.parametrize("turn", TURNS)
def test_reports_of_traces_results_and_comparisons_show_text_as_text(watch, tmp_path, turn):
    """The same from the other end: what a capture, an analysis of a plug-in and a task leave."""
    hostile = Hostile(turn, KEPT, STRUCTURE, halves=False)
    tables = [
        every_kind()[kind] for kind in ("heads", "classes", "token by source", "curve", "edges", "rows")
    ]
    source = [hostile.of(found) for found in (whole_trace(), *tables, comparison())]
    words = {name: hostile.text(name) for name in ("title", "call", "command")}
    window = watch()
    for limit in (1, 10_000_000):
        window.page.goto(hw.report(source, tmp_path / "r.html", limit=limit, **words).as_uri())
        window.page.wait_for_selector("#map-0-0 canvas")
        assert len(window.check(hostile)) > 30
    entries = [hostile.of(Entry("a title", "#r.html", ("it says", "that"), "a command"))] * 2
    window.page.goto(write_index(entries, tmp_path / "index.html", title=hostile.text("all")).as_uri())
    assert len(window.check(hostile)) == 5


@pytest.mark.parametrize("turn", TURNS)
def test_the_viewer_shows_text_as_text(watch, browser, turn):
    pytest.importorskip("anywidget", reason="the viewer is a widget of anywidget")
    from headwise.reports.notebook.widget import Viewer
    from tests.kit.viewer import in_browser

    hostile, content = hostile_content(turn)
    with in_browser(browser, Viewer(content, "", table=True)) as (page, complaints):
        page.locator(".columns > .head canvas").wait_for()
        window = watch()
        window.page, window.complaints = page, complaints
        assert len(window.check(hostile)) > 10


def test_names_of_files_show_as_text(watch, tmp_path):
    """A page, a spec, a picture, named as an attacker would; and the commands and calls that name them."""
    from tests.kit.cli import run

    names = [name.replace("/", "⁄") for name in PAYLOADS if "\0" not in name and not HALVES.search(name)]
    subject = hw.load("zoo:lm")
    window = watch()
    for number, name in enumerate(names[::2]):
        folder = tmp_path / name
        folder.mkdir()
        hw.save_spec(folder / f"{name}.json", hw.fixes.ZeroHeads(heads=((0, 0),)), subject)
        (folder / f"{name}.txt").write_text("a b c")
        page = hw.report(
            subject, folder / f"{name}.html", examples=[{"text": "a b"}], fixes=str(folder / f"{name}.json")
        )
        window.page.goto(page.as_uri())
        window.check(Hostile())
        if number % 4 == 0:
            done = run("report", "zoo:lm", "--text-file", folder / f"{name}.txt", "--out", folder / f"{name}2.html",
                "--fix", folder / f"{name}.json")  # fmt: skip
            assert done.exit_code == 0, done.stderr
            window.page.goto((folder / f"{name}2.html").as_uri())
            window.check(Hostile())
            assert name.split()[0] in window.page.content() or "&lt;" in window.page.content()
