"""Maps of words: every head on one map, with its evidence and its address."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from headwise.reports.collect.maps import is_map, is_word_map
from headwise.reports.collect.words import word_map_of
from headwise.reports.content.content import Content
from headwise.reports.page.page import facts, render
from headwise.results.result import Result

ROWS = [
    ("text", "self", 0, 0, 0, "sink", 0.8, "induction"),
    ("text", "self", 0, 0, 2, "none", 0.1, ""),
    ("text", "self", 1, 0, 0, "sink", 0.7, ""),
    ("text", "self", 1, 1, 1, "<b>", float("nan"), ""),
]


def result() -> Result:
    frame = pd.DataFrame(
        ROWS, columns=["tower", "kind", "layer", "call", "head", "head_kind", "score", "also"]
    )
    return Result(
        name="head_kinds",
        kind="classes",
        keys=("tower", "kind", "layer", "call", "head"),
        value="head_kind",
        unit="kind",
        description="How to read it.",
        summary="It is so.",
        provenance={},
        frame=frame,
    )


def test_every_head_has_its_word_its_evidence_and_its_place():
    found = word_map_of(result())
    assert found.words == (("sink", 2), ("none", 1), ("<b>", 1))
    (panel,) = found.panels
    assert panel.layers == ("0", "1", "1.1")
    assert [[cell and cell.place for cell in row] for row in panel.cells] == [
        [0, None, 1],
        [0, None, None],
        [None, 2, None],
    ]
    evidence = {cell.address: cell.evidence for cell in found.known}
    assert evidence == {
        "head-text-00-00": "L0H0: sink; score 0.80, also induction",
        "head-text-00-02": "L0H2: none; score 0.10",
        "head-text-01-00": "L1H0: sink; score 0.70",
        "head-text-01.1-01": "L1.1H1: <b>",
    }


def test_the_page_has_the_map_and_says_no_word_as_markup():
    content = Content("A model", words=(word_map_of(result()),))
    page = render(content)
    assert "L1.1H1: &lt;b&gt;" in page
    assert "<b>" not in page
    assert 'href="#head-' not in page  # no trace, so no head to open
    assert page.count(">·<") == 2  # "none", in the legend and on the map
    assert facts(content)["words"]["head_kinds"][0] == "L0H0: sink; score 0.80, also induction"


def test_words_that_differ_by_example_are_maps_of_shares():
    one = result()
    by_example = replace(one, keys=("example", *one.keys), frame=one.frame.assign(example=0))
    assert is_word_map(result())
    assert not is_map(result())
    assert is_map(by_example)
    assert not is_word_map(by_example)
