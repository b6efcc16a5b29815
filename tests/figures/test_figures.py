"""Figures: one printed scale, sizes that fit a paper, units on axes, and every text shown letter by letter."""

import html

import numpy as np
import pandas as pd
import plotly.io
import pytest

from headwise.analyses import HEAD
from headwise.figures.colours import CLEAR, DIVERGING, UNCLEAR, hex_of
from headwise.figures.intervals import Interval, Panel, interval_figure
from headwise.figures.labels import label, lines
from headwise.figures.template import ONE_COLUMN, TWO_COLUMNS, sheet, template
from headwise.results.result import Result
from tests.kit.results import every_kind, made

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<b>bold</b>",
    "$\\alpha$",
    "\u202egnp.exe",
    "\x00\x1b[31m",
    "x" * 10_000,
    "%{x}",
    "a<br>b",
    "\"'><img src=x onerror=alert(1)>",
]


def heads(panels=1, *, layers=4, heads=8, examples=1, unit="share", low=0.0, high=1.0, roles=None, **names):
    """A result with a row per head: `panels` towers of random values."""
    rng = np.random.default_rng(0)
    towers = roles or [f"tower{number}" for number in range(panels)]
    rows = [
        (example, tower, "self", layer, 0, head, rng.uniform(low, high))
        for example in range(examples)
        for tower in towers
        for layer in range(layers)
        for head in range(heads)
    ]
    columns = ["example", "tower", "kind", "layer", "call", "head", "score"]
    facts = {
        "name": "metric",
        "description": "High is more.",
        "summary": "Found 1.",
        "value": "score",
    } | names
    frame = pd.DataFrame(rows, columns=columns).rename(columns={"score": facts["value"]})
    provenance = {"model": "a model"}
    return Result(frame=frame, kind="heads", keys=HEAD, unit=unit, provenance=provenance, **facts)


def sinks(tokens):
    frame = pd.DataFrame({"tower": "text", "kind": "self", "position": range(len(tokens)), "token": tokens})
    frame["share"] = np.linspace(1, 0.5, len(tokens))
    keys = ("tower", "kind", "position")
    return made("sinks", "positions", frame, keys, "share", provenance={"model": HOSTILE[0]})


def boxes(figure):
    """Left, right, bottom and top of every panel in pixels."""
    layout = figure.layout
    wide = layout.width - layout.margin.l - layout.margin.r
    tall = layout.height - layout.margin.t - layout.margin.b
    axes = [(figure.layout[x], figure.layout[y]) for x, y in axis_names(figure)]
    return [(x.domain[0] * wide, x.domain[1] * wide, y.domain[0] * tall, y.domain[1] * tall) for x, y in axes]


def axis_names(figure):
    """Both axes of every panel that shows something."""
    return [(f"xaxis{(trace.xaxis or 'x')[1:]}", f"yaxis{(trace.yaxis or 'y')[1:]}") for trace in figure.data]


def test_the_template_is_not_registered():
    before = plotly.io.templates.default
    template()
    heads().plot()
    assert plotly.io.templates.default == before
    assert "headwise" not in list(plotly.io.templates)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_shows_every_letter(text):
    shown = label(text)
    assert "<" not in shown
    assert "$" not in shown
    assert "%{" not in shown
    assert shown.isprintable()
    assert len(html.unescape(shown)) <= 200
    if text.isprintable() and len(text) <= 40:
        assert html.unescape(shown) == text


def test_lines_fit_and_say_what_was_left_out():
    shown = lines("one two three four five six seven", width=9, most=2)
    assert shown == ["one two", "three …"]
    assert all(len(line) <= 20 for line in lines("y" * 10_000, width=20))


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 7])
def test_maps_have_one_size_do_not_touch_and_fit_a_paper(panels):
    figure = heads(panels, layers=6).plot()
    assert figure.layout.width in (ONE_COLUMN, TWO_COLUMNS)
    found = boxes(figure)
    assert len(found) == panels
    sizes = np.array([(right - left, top - bottom) for left, right, bottom, top in found])
    np.testing.assert_allclose(sizes, sizes[[0]].repeat(panels, 0), atol=0.01)
    assert sizes.min() > 90
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            beside = one[1] + 40 <= other[0] or other[1] + 40 <= one[0]
            below = one[2] >= other[3] + 60 or other[2] >= one[3] + 60
            assert beside or below


@pytest.mark.parametrize("unit", ["share", "percent", "nats"])
def test_all_maps_share_one_scale_that_is_printed_with_its_unit(unit):
    high = {"share": 0.3, "percent": 30.0, "nats": 3.3}[unit]
    result = heads(3, unit=unit, high=high)
    figure = result.plot()
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    assert all(trace.zmin is None and trace.zmax is None for trace in figure.data)
    scale = figure.layout.coloraxis
    assert (scale.cmin, scale.cmax) == {"share": (0, 1), "percent": (0, 100), "nats": (0, 4)}[unit]
    assert unit in scale.colorbar.title.text
    assert unit in figure.layout.title.text
    assert result.scale() == (scale.cmin, scale.cmax)


def test_values_on_both_sides_of_zero_get_a_scale_with_white_at_zero():
    scale = heads(low=-0.2, high=0.7, unit="difference").plot().layout.coloraxis
    assert scale.cmin == -scale.cmax == -0.7 or scale.cmin == -scale.cmax == -0.8
    assert scale.colorscale[0][1] == hex_of(DIVERGING[0])
    assert scale.colorscale[-1][1] == hex_of(DIVERGING[-1])


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_map_without_a_spread_is_drawn(value):
    result = heads()
    frame = result.frame.assign(score=value)
    odd = made("metric", "heads", frame, HEAD, "score", unit="nats")
    assert odd.plot().layout.coloraxis.cmax == 1.0
    assert "<img" in odd._repr_html_()


def test_a_figure_says_how_many_examples_it_shows():
    assert "a model, mean over 3 examples" in heads(examples=3).plot().layout.title.text
    assert "a model, 1 example<" in heads().plot().layout.title.text


def test_few_labels_on_many_heads():
    figure = heads(1, layers=32, heads=128).plot()
    (left, right, bottom, top) = boxes(figure)[0]
    assert 128 / figure.layout.xaxis.dtick * 20 < right - left
    assert 32 / figure.layout.yaxis.dtick * 12 < top - bottom


def test_hostile_text_is_shown_as_text_in_maps_and_bars():
    for result in (heads(roles=HOSTILE, name="<i>a</i>", unit="$u$"), sinks(HOSTILE)):
        figure = result.plot()
        texts = [note.text for note in figure.layout.annotations] + [figure.layout.title.text]
        texts += [text for _, y in axis_names(figure) for text in figure.layout[y].ticktext or ()]
        whole = " ".join(texts)
        for wrong in ("<script", "<img", "<i>", "$", "\u202e", "\x00", "x" * 200):
            assert wrong not in whole
        assert "&lt;script&gt;" in whole or "&lt;/script&gt;" in whole
        assert "%{x}" not in whole


@pytest.mark.parametrize("kind", ["token by source", "curve"])
def test_words_along_an_axis_are_escaped_and_stay_apart(kind):
    one = every_kind()[kind]
    words = ("\n", "\\n", "<b>b</b>", "%{x}")
    column, other = ("token", "source") if kind != "curve" else ("size", "circuit")
    rows = [("text", "self", word, "<a>", 0.5) for word in words]
    frame = pd.DataFrame(rows, columns=["tower", "kind", column, other, one.value])
    keys = tuple({column: "<i>x", other: "%{y}"}.get(name, name) for name in one.keys)
    axes = tuple({column: "<i>x", other: "%{y}"}.get(name, name) for name in one.axes)
    renamed = frame.rename(columns={column: "<i>x", other: "%{y}"})
    figure = made(one.name, one.kind, renamed, keys, one.value, axes=axes).plot()
    drawn = figure.data[0]
    shown = [*(drawn.y if kind != "curve" else drawn.x)]
    assert len(set(shown)) == 4
    shown += [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text, drawn.hovertemplate]
    whole = " ".join(shown).replace("<extra></extra>", "")
    assert "<" not in whole
    assert "%{x}" not in whole.replace(" %{x}", "").replace("%{y}, ", "")


def test_bars_are_the_largest_and_the_rest_is_mentioned():
    figure = sinks([f"w{number}" for number in range(30)]).plot()
    assert figure.layout.yaxis.ticktext[0] == "w0, position 0"
    assert list(figure.data[0].x) == sorted(figure.data[0].x, reverse=True)
    assert len(figure.data[0].x) == 12
    assert "the 12 largest" in figure.layout.title.text
    assert figure.layout.xaxis.range == (0.0, 1.0)


def test_rows_that_are_neither_heads_nor_positions_are_drawn():
    frame = pd.DataFrame({"language": ["de", "fr"], "gain": [-0.5, 1.5]})
    figure = made("plugin", "rows", frame, ("language",), "gain", unit="points").plot()
    assert figure.layout.yaxis.ticktext == ("fr", "de")
    assert figure.layout.xaxis.range == (-2.0, 2.0)


def test_intervals_are_drawn_to_both_sides_and_unclear_ones_are_hollow():
    items = [Interval("a", 0.5, 0.2, 0.9), Interval("b", 0.1, -0.1, float("nan"), clear=False)]
    figure = interval_figure([Panel("gain", "points", items)], title="t", subtitle="n = 3", zero=True)
    dots = figure.data[0]
    np.testing.assert_allclose(dots.error_x.array[0], 0.4)
    np.testing.assert_allclose(dots.error_x.arrayminus, [0.3, 0.2])
    assert list(dots.marker.color) == [CLEAR, UNCLEAR]
    assert list(dots.marker.symbol) == ["circle", "circle-open"]
    low, high = figure.layout.xaxis.range
    assert low < -0.1
    assert high > 0.9
    assert figure.layout.xaxis.title.text == "points"
    assert "n = 3" in figure.layout.title.text


def test_names_that_are_cut_alike_keep_rows_of_their_own():
    items = [Interval(f"{'x' * 100}{number}{'x' * 100}", number, number, number) for number in range(3)]
    figure = interval_figure([Panel("", "share", items)], title="t", subtitle="")
    assert list(figure.data[0].y) == [0, 1, 2]


def test_titles_push_the_panels_down():
    short, long = (sheet(["a"], title=title, heights=[100]) for title in ("short", "long words " * 20))
    assert long.layout.margin.t > short.layout.margin.t
    assert long.layout.height - short.layout.height == long.layout.margin.t - short.layout.margin.t
