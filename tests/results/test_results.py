"""Results: each kind is checked, averaged, drawn, saved, read back and shown as what it is."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import headwise as hw
from headwise.analyses import HEAD, load_result, merge
from headwise.errors import InputError
from headwise.figures.drawers import BY_KIND
from headwise.probes.attach.sites import Site
from headwise.reports.collect.build import build_content
from tests.kit.results import SITE, every_kind, made, table
from tests.kit.traces import make_trace, random_pattern

TEXT = Site("text", "self", 0)

KINDS = every_kind()


@pytest.fixture(params=KINDS)
def result(request):
    return KINDS[request.param]


def pictures(html):
    """The texts of all SVG pictures of some HTML."""
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', html)
    return [re.findall(r"<text[^>]*>([^<]*)</text>", base64.b64decode(one).decode()) for one in found]


def test_every_kind_has_an_example_here():
    assert {result.kind for result in KINDS.values()} == set(BY_KIND)


def test_it_is_drawn_and_shown_and_says_what_it_is(result):
    figure = result.plot()
    assert len(figure.data) >= (1 if len(result.frame) else 0)
    cell = result._repr_html_()
    assert "Found 1." in cell
    assert ("<img" in cell) == (result.kind != "difference" and len(result.frame) > 0)


def test_files_hold_everything(result, tmp_path):
    for suffix in (".json", ".parquet"):
        back = load_result(result.save(tmp_path / f"x{suffix}"))
        pd.testing.assert_frame_equal(back.frame, result.frame, check_dtype=len(result.frame) > 0)
        assert back.keys == result.keys
        assert replace(back, frame=result.frame) == replace(result, frame=result.frame)
    page = result.save(tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Found 1." in page


def test_the_page_shows_it(result, tmp_path):
    page = hw.report(result, tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Found 1." in page
    content = build_content(result)
    places = len(content.metrics) + len(content.graphs) + len(content.findings)
    assert places == 1


class TestShapes:
    def test_whole_numbers_are_averaged_over_examples(self):
        mean = KINDS["heads of whole numbers"].mean()
        assert len(mean) == 6
        frame = KINDS["heads of whole numbers"].frame
        expected = frame.groupby(["layer", "head"])["rank"].mean().to_numpy()
        np.testing.assert_allclose(mean["rank"], expected)

    def test_the_order_of_columns_does_not_matter(self):
        titles = [
            [panel.title for panel in KINDS[name].panels()] for name in ("heads", "heads in another order")
        ]
        assert titles == [["text self"]] * 2
        first, second = (KINDS[name].panels()[0].grid for name in ("heads", "heads in another order"))
        np.testing.assert_allclose(first, second)

    def test_classes_are_shares_of_examples(self):
        panels = {panel.names[-1]: panel.grid for panel in KINDS["classes"].panels()}
        assert list(panels) == ["induction", "previous"]
        np.testing.assert_allclose(panels["induction"] + panels["previous"], 1.0)
        assert panels["induction"].loc["0", 0] == 1.0

    def test_layers_are_a_line(self):
        (line,) = KINDS["layers"].plot().data
        assert list(line.x) == ["0", "1", "2", "3"]
        expected = KINDS["layers"].frame.groupby("layer")["score"].mean()
        np.testing.assert_allclose(line.y, expected)
        assert "layer" in pictures(KINDS["layers"]._repr_html_())[0]

    def test_a_curve_has_its_numbers_on_the_axis(self):
        found, random = KINDS["curve"].plot().data
        assert (found.name, random.name) == ("text self found", "text self random")
        assert list(found.x) == [0, 2, 10]
        assert {"0", "10", "size"} <= set(pictures(KINDS["curve"]._repr_html_())[0])

    def test_a_matrix_has_its_axes_and_no_mean_over_positions(self):
        (panel,) = KINDS["token by source"].panels()
        assert (list(panel.grid.index), list(panel.grid.columns)) == (
            ["the", "cat", "sat"],
            ["image", "text"],
        )
        whole = KINDS["head by query by key"]
        assert [panel.title for panel in whole.panels()] == [
            "text self: L0H0",
            "text self: L0H1",
        ]
        frame = whole.frame[whole.frame["head"] == 1]
        np.testing.assert_array_equal(whole.panels()[1].grid.to_numpy().ravel(), frame["score"])
        assert "queries down, keys across" in whole._repr_html_()

    def test_rows_and_columns_of_a_small_matrix_are_named_beside_it(self):
        """In reading order, columns first, as text and never as markup; a large one has no room for them."""
        frame = table(query=["the", "<b>&", "x" * 50], key=["image", "text"])
        keys = ("tower", "kind", "query", "key")
        cell = made("m", "matrix", frame, keys, "score", axes=("query", "key"))._repr_html_()
        beside = cell.split("<figure")[1].split("<img")[0]
        assert re.findall(r">([^<>]+)<", beside)[1:] == [
            "image",
            "text",
            "the",
            "&lt;b&gt;&amp;",
            "x" * 15 + "…",
        ]
        large = made(
            "m", "matrix", table(query=range(17), key=range(2)), keys, "score", axes=("query", "key")
        )
        assert "grid-template" not in large._repr_html_()
        assert "grid-template" not in KINDS["heads"]._repr_html_()

    def test_examples_of_a_matrix_stay_apart(self):
        frame = table(example=[0, 1], query=range(2), key=range(2))
        keys = ("tower", "kind", "example", "query", "key")
        result = made("m", "matrix", frame, keys, "score", axes=("query", "key"))
        assert [panel.title for panel in result.panels()] == ["text self: example 0", "text self: example 1"]
        with pytest.raises(InputError, match="cells of a matrix"):
            result.mean()

    def test_edges_are_a_graph(self):
        figure = KINDS["edges"].plot()
        assert list(figure.data[-1].text) == ["input", "L0H1", "logits"]
        assert [line.line.dash for line in figure.data[:2]] == ["solid", "dash"]
        assert pictures(KINDS["edges"]._repr_html_()) == [["input", "L0H1", "logits"]]

    def test_bars_are_named(self):
        assert KINDS["positions"].plot().layout.yaxis.ticktext[-1].startswith("position ")
        assert set(KINDS["rows"].plot().layout.yaxis.ticktext) == {"fr", "de"}

    def test_nothing_found_is_said(self):
        figure = KINDS["nothing"].plot()
        assert "nothing was found" in [note.text for note in figure.layout.annotations]
        assert len(KINDS["nothing"].frame) == 0


def test_maps_and_heads_of_a_page_name_a_layer_alike():
    sites = {Site("vision", "self", 0, call=call): random_pattern(1, 2, 4, 4, seed=call) for call in range(3)}
    content = build_content(make_trace(sites))
    panels = [panel for metric in content.metrics for panel in metric.panels if panel.across == "head"]
    named = {panel.layers for panel in panels}
    assert named == {("0", "0.1", "0.2")}
    assert {group.layers for group in content.groups} <= named


class TestRefusals:
    def test_an_unknown_kind(self):
        with pytest.raises(InputError, match=r"no kind of result 'maps'.*heads"):
            made("m", "maps", table(layer=[0], head=[0]), HEAD, "score")

    def test_a_missing_column(self):
        with pytest.raises(InputError, match=r"no column 'head'.*columns: tower, kind, layer, score"):
            made("m", "heads", table(layer=[0]), (*SITE, "layer"), "score")

    def test_an_axis_that_is_no_key(self):
        with pytest.raises(InputError, match="leave out the axis 'head'"):
            made("m", "heads", table(layer=[0], head=[0]), (*SITE, "layer"), "score")

    def test_a_matrix_without_axes(self):
        with pytest.raises(InputError, match="a matrix names 2 columns as axes"):
            made("m", "matrix", table(query=[0], key=[0]), (*SITE, "query", "key"), "score")

    def test_two_rows_with_one_name(self):
        frame = table(example=[0, 1], layer=[0], head=[0])
        with pytest.raises(InputError, match=r"two rows have the same name.*layer 0, head 0"):
            made("m", "heads", frame, (*SITE, "layer", "head"), "score")

    @pytest.mark.parametrize("wrong", [["a", "b"], [0.5, 1.0], [-1, 0], [True, False], [0, 2**53]])
    @pytest.mark.parametrize("column", ["layer", "head"])
    def test_heads_and_layers_without_numbers(self, column, wrong):
        columns = {"layer": [0, 1], "head": [0, 1], column: wrong}
        frame = pd.DataFrame({**columns, "score": [0.1, 0.2]})
        with pytest.raises(InputError, match=rf"the column '{column}' holds no numbers of {column}s"):
            made("m", "heads", frame, ("layer", "head"), "score")

    def test_words_as_numbers(self):
        frame = table(layer=[0], head=[0]).assign(score="much")
        with pytest.raises(InputError, match="'score' holds no numbers"):
            made("m", "heads", frame, (*SITE, "layer", "head"), "score")

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"result": 1}', '{"result": 2, "rows": []}', "\x00"])
    def test_a_file_that_is_no_result(self, tmp_path, text):
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(InputError, match="This file is no result"):
            load_result(path)


class TestMerge:
    def shards(self, *counts):
        whole = table(example=range(sum(counts)), layer=[0], call=[0], head=[0, 1])
        parts, start = [], 0
        for count in counts:
            part = whole[(whole["example"] >= start) & (whole["example"] < start + count)]
            part = part.assign(example=part["example"] - start).reset_index(drop=True)
            meta = {"model": "m", "examples": count, "parameters": {}}
            parts.append(made("metric", "heads", part, HEAD, "score", provenance=meta))
            start += count
        return whole, parts

    def test_shards_are_the_whole(self):
        whole, parts = self.shards(2, 3, 1)
        merged = merge(parts)
        pd.testing.assert_frame_equal(merged.frame, whole)
        assert merged.provenance["examples"] == 6

    def test_the_sentence_is_made_of_the_whole_table(self):
        frame = table("normalised_entropy", example=[0], layer=[0], call=[0], head=[0, 1]).assign(entropy=1.0)
        shards = [
            made("entropy", "heads", frame.assign(normalised_entropy=value), HEAD, "normalised_entropy")
            for value in (0.2, 0.6)
        ]
        assert merge(shards).summary.startswith("Heads use 40 % of the largest possible entropy")

    def test_rates_of_shards_are_those_of_the_whole(self):
        lengths = (9, 7, 5)
        traces = [make_trace({TEXT: random_pattern(1, 2, n, n, seed=n)}) for n in lengths]
        whole = merge([hw.analyses.sink_rate(trace, epsilon=0.2) for trace in traces])
        alphas = [
            trace.records[TEXT]["received"][0] / trace.records[TEXT]["n_queries"][0] for trace in traces
        ]
        for _, row in whole.frame.iterrows():
            offset = row["offset"]
            known = np.concatenate([alpha[:, offset].numpy() for alpha in alphas if offset < alpha.shape[1]])
            assert row["triples"] == len(known)
            np.testing.assert_allclose(row["rate"], 100 * (known > 0.2).mean())
            np.testing.assert_allclose(row["mean_received"], known.mean(), rtol=1e-5)
        assert whole.frame["most_rows"].tolist() == list(range(9, 0, -1))
        assert list(whole.frame["offset"]) == list(range(9))
        first = whole.frame.iloc[0]
        assert f"{first['rate']:.1f} % of (example, layer, head) triples" in whole.summary

    def test_means_and_strangers_are_refused(self):
        _, (first, second) = self.shards(1, 1)
        with pytest.raises(InputError, match="not of one analysis"):
            merge([first, replace(second, name="other")])
        with pytest.raises(InputError, match="same model"):
            merge([first, replace(second, provenance={"model": "another"})])
        for name, said in (
            ("weights", "fingerprint of the weights"),
            ("patched", "fixes"),
            ("compared_with", "fixes of what is compared"),
        ):
            other = {"patched": ["b"]} if name == "compared_with" else ["b"]
            unlike = replace(second, provenance={**second.provenance, name: other})
            with pytest.raises(InputError, match=rf"parameters.*{said}: .* and \['b'\]"):
                merge([first, unlike])
        with pytest.raises(InputError, match="nothing to merge"):
            merge([])
        with pytest.raises(InputError, match="two such tables have no sum"):
            merge([KINDS["curve"], KINDS["curve"]])
        named = replace(first, frame=first.frame.assign(id="a"))
        with pytest.raises(InputError, match="stands in two of these"):
            merge([named, named])
        with pytest.raises(InputError, match=r"only some have id\).*Capture all of them with ids"):
            merge([first, named])

    @pytest.mark.parametrize("suffix", [".json", ".parquet"])
    def test_a_shard_without_rows_merges_after_its_file_was_read(self, tmp_path, suffix):
        whole, (first, second) = self.shards(2, 1)
        read = [
            load_result(part.save(tmp_path / f"{place}{suffix}"))
            for place, part in enumerate([first, replace(second, frame=second.frame[:0])])
        ]
        assert merge([*read, second]).frame.dtypes.to_dict() == whole.dtypes.to_dict()

    def test_the_sentence_of_an_analysis_that_is_not_registered_counts(self):
        _, parts = self.shards(2, 3)
        assert merge(parts).summary == "10 rows, merged from 2 results."


def test_a_row_without_a_name_is_refused():
    for missing in (None, np.nan):
        frame = pd.DataFrame({"sender": ["a", missing], "receiver": ["b", "c"], "weight": [1.0, 2.0]})
        with pytest.raises(InputError, match=r"1 row without a name.*'sender' has missing values"):
            made("m", "edges", frame, ("sender", "receiver"), "weight", unit="points")


@pytest.mark.parametrize(
    ("unit", "value", "wrong"),
    [
        ("share", "score", 1.5),
        ("share", "score", -0.5),
        ("percent", "score", 150.0),
        ("nats", "entropy", -1.0),
    ],
)
def test_a_number_that_its_unit_cannot_have_is_refused(unit, value, wrong):
    frame = pd.DataFrame({"layer": [0, 1], value: [0.5, wrong]})
    with pytest.raises(InputError, match=f"{wrong:g} is no '{value}' in {unit}"):
        made("m", "layers", frame, ("layer",), value, unit=unit)
    assert made("m", "layers", frame, ("layer",), value, unit="change").frame is frame


def test_a_table_that_is_none_is_refused():
    with pytest.raises(InputError, match="there is no table, but Series"):
        made("m", "rows", pd.Series([1.0]), ("name",), "score")
