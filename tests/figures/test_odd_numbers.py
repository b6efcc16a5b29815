"""Every number that a result may hold draws: as a figure, in a cell, and on a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import headwise as hw
from headwise.figures.chart import round_up
from headwise.reports.content import formatting
from tests.kit.results import every_kind
from tests.tiny.telling import crossed

INF, NAN, LARGEST, LEAST = float("inf"), float("nan"), 1.7976931348623157e308, 5e-324
ODD = {
    "infinite": [INF],
    "minus infinite": [-INF],
    "unknown": [NAN],
    "as large as can be": [1e308, -1e308],
    "the largest": [LARGEST],
    "minus zero": [-0.0],
    "the least": [LEAST],
    "all together": [LARGEST, INF, -INF, NAN, LEAST, -0.0, -LARGEST],
}
KINDS = {name: made for name, made in every_kind().items() if made.kind != "classes" and len(made.frame)}


def odd(name: str, values: str) -> hw.analyses.Result:
    """A result of this kind whose values are those."""
    result = KINDS[name]
    column = np.resize(np.array(ODD[values]), len(result.frame))
    parts = [result.value, *(part for part in ("difference_low", "difference_high") if part in result.frame)]
    units = {"unit": "points"} if "unit" in result.frame else {}
    frame = result.frame.assign(**dict.fromkeys(parts, column), **units)
    return replace(result, frame=frame, unit="points")


@pytest.mark.parametrize(
    ("name", "values"),
    crossed(
        KINDS,
        sorted(ODD, key="all together".__ne__),
        list(KINDS),
        [(name, values) for name in ("curve", "edges") for values in ODD],
    ),
)
def test_figures_and_cells_draw(name, values):
    result = odd(name, values)
    figure = json.loads(result.plot().to_json(), parse_constant=pytest.fail)
    assert figure["data"]
    cell = result._repr_html_()
    assert len(cell) > 200
    assert not re.search(r'="(nan|-?inf)', cell)


@pytest.mark.slow
@pytest.mark.parametrize("values", ODD)
@pytest.mark.parametrize("name", KINDS)
def test_pages_show(tmp_path, name, values):
    result = odd(name, values)
    page = hw.report(result, tmp_path / "x.html").read_text(encoding="utf-8")
    data = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    json.loads(data[1], parse_constant=pytest.fail)
    assert "Found 1." in result.save(tmp_path / "y.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [LEAST, 5e-310, 1e-300, 0.47, 1e308, 1.5e308, LARGEST])
def test_ends_of_scales_are_numbers_not_below_the_largest_value(value):
    for rounded in (round_up(value), formatting.round_up(value)):
        assert value * (1 - 1e-8) <= rounded < INF
    assert formatting.round_up(INF) == formatting.round_up(NAN) == formatting.round_up(-INF) == 0.0
