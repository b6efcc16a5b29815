"""The report without scripts, on paper, as a folder, and with hostile text, in a real browser."""

from __future__ import annotations

from dataclasses import replace

import pytest

import headwise as hw
from headwise.analyses import entropy
from headwise.probes.attach.sites import Site
from headwise.reports.collect.build import build_content
from headwise.reports.content.content import Flip
from headwise.reports.page.page import write_page
from tests.kit.browser import DESK, MARKS, open_head, wait_for_hash, width_of
from tests.kit.reports import HOSTILE, sink_trace, zoo_content
from tests.kit.traces import META, axis, causal, make_trace, random_pattern

pytestmark = MARKS
PLACES = "all => all.map((one) => one.getBoundingClientRect()).map((box) => [box.left, box.right])"
EVIL = f"{' '.join(HOSTILE)} {'w' * 10_000}"


def test_without_scripts_there_are_verdict_tables_and_pictures_and_no_dead_controls(seen, tmp_path):
    path = write_page(zoo_content("vlm"), tmp_path / "r.html").path
    page = seen(path, java_script_enabled=False)
    for shown in (
        "#verdict .sentence",
        "#layers table",
        "#roles table",
        "#evaluation table",
        "#chart-0 svg",
        "#map-0-0 img",
        ".sheet img",
        "#example-0 .layers img",
        "#example-0 .static-only img",
    ):
        part = page.locator(shown).first
        part.scroll_into_view_if_needed()
        assert part.is_visible(), shown
        assert part.bounding_box()["height"] > 10, shown
    dead = page.locator("button, input, select, canvas, .control, .cells")
    assert dead.count() > 0
    assert not [part for part in dead.all() if part.is_visible()]
    for broken in page.locator("img").all():
        assert broken.get_attribute("src").startswith("data:image/")
        assert broken.get_attribute("alt")


def test_without_scripts_sound_and_matrix_are_there(seen, tmp_path):
    path = write_page(zoo_content("speech"), tmp_path / "r.html").path
    page = seen(path, java_script_enabled=False)
    for shown in ("#example-0 .heard img", "#example-0 .matrix img", "#example-0 .tokens"):
        assert page.locator(shown).first.is_visible(), shown


def test_on_paper_there_is_no_panel_and_nothing_is_cut(seen, tmp_path):
    page = seen(write_page(zoo_content("vlm"), tmp_path / "r.html").path, "#head-text-01-02")
    open_head(page, "text · self, L1H2")
    page.emulate_media(media="print")
    assert page.locator("#head").is_hidden()
    assert page.locator("nav").is_hidden()
    assert not [part for part in page.locator("button, input, select, summary").all() if part.is_visible()]
    assert page.locator("main").bounding_box()["width"] > 0.8 * min(DESK["width"], 1100)
    cut = page.locator(".scroll").evaluate_all(
        "parts => parts.filter((part) => part.scrollHeight > part.clientHeight + 1"
        " && getComputedStyle(part).overflowY !== 'visible').length"
    )
    assert cut == 0


def test_reduced_motion(seen, tmp_path):
    path = write_page(zoo_content("lm"), tmp_path / "r.html").path
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert seen(path, reduced_motion="reduce").evaluate(behaviour) == "auto"
    assert seen(path, reduced_motion="no-preference").evaluate(behaviour) == "smooth"


@pytest.mark.parametrize("width", [400, 1280])
def test_every_mark_of_a_chart_stands_where_its_number_says(seen, tmp_path, width):
    content = zoo_content("vlm")
    path = write_page(content, tmp_path / "r.html").path
    assert "plotly" not in path.read_text(encoding="utf-8").lower()
    page = seen(path, viewport={"width": width, "height": 900})
    chart = page.locator("#chart-0")
    marks = chart.locator("line.mark").evaluate_all(PLACES)
    numbers = [float(text) for text in chart.locator("text.mark").all_text_contents()]
    scale = (marks[-1][0] - marks[0][0]) / (numbers[-1] - numbers[0])
    rows = content.comparisons[0].chart.intervals
    dots = chart.locator("circle").evaluate_all(PLACES)
    spans = chart.locator("g line").evaluate_all(PLACES)
    assert len(dots) == len(spans) == len(rows)
    for row, dot, span in zip(rows, dots, spans, strict=True):
        for number, place in ((row.value, sum(dot) / 2), (row.low, span[0]), (row.high, span[1])):
            assert place == pytest.approx(marks[0][0] + scale * (number - numbers[0]), abs=1)
    for text in chart.locator("text").all():
        assert text.bounding_box()["x"] + text.bounding_box()["width"] <= width


def test_a_folder_opens_its_data_when_they_are_needed(seen, tmp_path):
    content = zoo_content("vlm")
    written = write_page(content, tmp_path / "r.html", limit=1)
    assert written.path == tmp_path / "r" / "index.html"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r"]
    page = seen(written.path)
    asked = []
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    assert page.locator("script[src]").count() == 0
    page.evaluate("location.hash = 'head-text-01-02-example-1'")
    open_head(page, "text · self, L1H2")
    assert page.locator("#head .pattern canvas").is_visible()
    assert page.locator("#head .histogram li").count() == 10
    files = page.evaluate("window.headwiseFiles")
    assert files["own-text"].rsplit("/", 1)[1] in asked
    assert files["patterns-vision"].rsplit("/", 1)[1] not in asked


def test_a_folder_replaces_only_its_own_kind(tmp_path):
    content = zoo_content("lm")
    first = write_page(content, tmp_path / "r.html", limit=1)
    again = write_page(replace(content, title="another"), tmp_path / "r.html", limit=1)
    assert again.path == first.path
    assert "another" in again.path.read_text()
    foreign = first.path.parent / "thesis.txt"
    foreign.write_text("mine")
    with pytest.raises(hw.InputError, match="did not write"):
        write_page(content, tmp_path / "r.html", limit=1)
    assert foreign.read_text() == "mine"
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(hw.InputError):
        write_page(content, tmp_path / "mine.html", limit=1)
    assert (other / "notes.txt").read_text() == "mine"
    assert [entry.name for entry in other.iterdir()] == ["notes.txt"]


def hostile_report(path, *, limit=10_000_000):
    """Hostile text wherever a page takes text from outside."""
    tower = "a b/<i>'\"\u202e\x00</script>"
    tokens = [*HOSTILE, "x" * 10_000, *(f"w{i}" for i in range(7))]
    meta = META | {"model": EVIL, "warnings": [EVIL], "unreached": [EVIL], "revision": EVIL, "task": EVIL}
    named = {}
    for name in (tower, "text"):
        named[name] = axis(name, [["bos"] + ["content"] * 11], [tokens])
    trace = make_trace(
        {Site(name, "self", 0): causal(random_pattern(1, 2, 12, 12)) for name in named}, named, meta=meta
    )
    own = entropy(trace)
    other = replace(own, name=EVIL[:60], unit=EVIL[:60], description=EVIL, provenance={}, summary=EVIL)
    content = build_content([trace, other], title=EVIL, call=EVIL, command=EVIL)
    compared = zoo_content("vlm").comparisons[0]
    chart = hostile_chart()
    table = replace(
        compared.table,
        title=EVIL,
        note=EVIL,
        rows=tuple((EVIL, EVIL, *row[2:]) for row in compared.table.rows),
    )
    flip = Flip(EVIL, EVIL, EVIL, EVIL, EVIL, "right → wrong")
    content = replace(
        content,
        fix=EVIL,
        comparisons=(replace(compared, title=EVIL, finding=EVIL, table=table, flips=(flip,), chart=chart),),
        examples=tuple(replace(example, reply=EVIL, reply_after=EVIL + "!") for example in content.examples),
        metrics=tuple(
            replace(metric, panels=tuple(replace(panel, after=panel.cells) for panel in metric.panels))
            for metric in content.metrics
        ),
    )
    return content, write_page(content, path, limit=limit).path


def hostile_chart():
    """The chart of a comparison whose arms and metric have hostile names."""
    from types import SimpleNamespace

    from headwise.reports.collect.charts import difference_chart

    change = SimpleNamespace(
        value=0.1, low=0.0, high=0.2, unit="share", higher_is_better=True, significant=True
    )
    arms = [SimpleNamespace(label=text, differences={EVIL: change}) for text in ("none", EVIL, "<b>bold</b>")]
    return difference_chart(SimpleNamespace(arms=arms), EVIL)


@pytest.mark.parametrize("limit", [10_000_000, 1])
@pytest.mark.parametrize("width", [400, 1280])
def test_hostile_text_is_shown_as_text(seen, tmp_path, width, limit):
    content, path = hostile_report(tmp_path / "r.html", limit=limit)
    page = seen(path, viewport={"width": width, "height": 900})
    page.wait_for_selector("#map-0-0 canvas")
    assert width_of(page) <= width
    for group in content.groups:
        page.evaluate("address => (location.hash = address)", f"head-{group.key}-00-01")
        page.locator("#head .pattern canvas").wait_for()
        wait_for_hash(page, f"#head-{group.key}-00-01")
        page.wait_for_function(
            "label => document.querySelector('#head h2').textContent.includes(label)",
            arg="L0H1",
        )
        assert width_of(page) <= width
        canvas = page.locator("#head .pattern canvas")
        canvas.focus()
        page.keyboard.press("ArrowRight")
    shown = page.locator("body").inner_text()
    assert "<script>alert(1)</script>" in shown
    assert "<img src=x onerror=alert(1)>" in shown
    assert "\\u202e" in shown
    assert not {"\u202e", "\x00", "\x1b"} & set(page.content())
    assert page.locator("img[src=x], i:not(.scale i), b").count() == 0
    ticks = page.locator("#chart-0 g text").all_text_contents()
    assert any(text.startswith("</script><script>") for text in ticks)
    assert any(text == "<b>bold</b>" for text in ticks)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((part) => part.id)")
    assert len(ids) == len(set(ids))


def test_two_results_of_one_name_have_maps_of_their_own(seen, tmp_path):
    first, second = sink_trace(), sink_trace(layers=2)
    path = hw.report([entropy(first), entropy(second)], tmp_path / "r.html")
    page = seen(path)
    page.wait_for_selector("#map-1-0 canvas")
    assert [part.inner_text() for part in page.locator(".metrics h3").all()] == [
        "Row entropy",
        "Row entropy (2)",
    ]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((part) => part.id)")
    assert len(ids) == len(set(ids))


def test_a_head_without_a_pattern_says_so(seen, tmp_path):
    trace = sink_trace()
    records = {
        site: {name: value for name, value in record.items() if name != "maps"}
        for site, record in trace.records.items()
    }
    trace = hw.Trace(records, trace.layout, META)
    page = seen(hw.report(trace, tmp_path / "r.html"), "#head-text-01-01")
    open_head(page, "text · self, L1H1")
    assert "No pattern was kept" in page.locator("#head").inner_text()
    assert page.locator("#head .histogram li").count() == 10
