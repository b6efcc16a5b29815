"""Comparisons as files, figures and pages."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.evaluation import evaluate, load_comparison
from headwise.evaluation.comparison._compare import compare
from headwise.fixes import ScaleHeads
from tests.kit.comparisons import SILENT, Learned, Next, small_subject
from tests.kit.result_files import rewritten

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found():
    fixes = {"silent": SILENT, SCRIPT: ScaleHeads(heads=((0, 0),), factor=0.5), "learned": Learned(beta=0.0)}
    return compare(small_subject(), Next(), fixes, n=12, calibrate=5)


@pytest.fixture(scope="module")
def files(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparisons")
    return {suffix: found.save(folder / f"run{suffix}") for suffix in (".json", ".parquet", ".csv")}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_saved_and_read_again(found, files, suffix):
    again = load_comparison(files[suffix])
    pd.testing.assert_frame_equal(again.frame, found.frame, check_dtype=False)
    pd.testing.assert_frame_equal(again.to_frame(), found.to_frame())
    assert again.arms == found.arms
    assert again.manifest == json.loads(json.dumps(found.manifest))
    assert (again.summary, again.n, repr(again)) == (found.summary, found.n, repr(found))
    assert again.arms[1].fixes == ()


def test_a_comparison_is_a_result_too(found, tmp_path):
    result = found.to_result()
    pd.testing.assert_frame_equal(result.frame, found.to_frame())
    assert result.summary == found.summary
    figure = result.plot()
    assert [len(trace.x) for trace in figure.data] == [3] * len(figure.data)
    assert list(figure.data[0].x) == [arm.main.value for arm in found.arms[1:]]
    assert SCRIPT not in figure.to_json()
    for suffix in (".json", ".parquet", ".csv", ".html"):
        assert result.save(tmp_path / f"table{suffix}").stat().st_size > 500
    assert SCRIPT not in (tmp_path / "table.html").read_text(encoding="utf-8")


def test_the_rows_as_text(found, files):
    rows = pd.read_csv(files[".csv"])
    assert rows["arm"].to_list() == found.frame["arm"].to_list()
    with pytest.raises(InputError, match=r"A comparison cannot be written as \.txt"):
        found.save(files[".csv"].with_suffix(".txt"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"comparison": 3}',
        '{"comparison": 3, "task": "a", "arms": [], "manifest": {}, "examples": []}',
        '{"comparison": 3, "task": "a", "arms": [{}], "manifest": {}, "examples": [{"arm": "none"}]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_comparison(tmp_path, text):
    for name in ("a.json", "a.parquet"):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match="no comparison") as error:
            load_comparison(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="There is no file"):
        load_comparison(tmp_path / "none.json")


def test_an_evaluation_is_no_comparison(tmp_path):
    path = evaluate(small_subject(), Next(), n=3).save(tmp_path / "run.parquet")
    with pytest.raises(InputError, match="no comparison"):
        load_comparison(path)


def test_a_newer_file_is_told_as_one(found, files, tmp_path):
    path = rewritten(files[".json"], tmp_path / "newer.json", lambda content: content.update(comparison=4))
    with pytest.raises(InputError, match="format 4, and this version of headwise reads 3"):
        load_comparison(path)


def test_rows_of_another_comparison_are_refused(files, tmp_path):
    path = rewritten(files[".json"], tmp_path / "mixed.json", lambda content: content["examples"].pop())
    with pytest.raises(InputError, match="do not belong together"):
        load_comparison(path)


DAMAGES = {
    "no estimates": (lambda arms: arms[0].update(estimates=[]), "lacks metrics"),
    "no estimates of a fix": (lambda arms: arms[1].update(estimates=[]), "'silent' lacks metrics"),
    "one estimate less": (lambda arms: arms[1]["estimates"].pop(), "'silent' lacks metrics"),
    "no differences": (lambda arms: arms[2].update(differences=[]), "lacks differences"),
    "differences without a fix": (
        lambda arms: arms[0].update(differences=arms[1]["differences"]),
        "'none' lacks differences",
    ),
    "p as text": (lambda arms: arms[1]["differences"][0].update(p_holm="x"), "p_holm is 'x'"),
    "p as truth": (lambda arms: arms[1]["differences"][0].update(p=True), "p is True"),
    "value as list": (lambda arms: arms[1]["estimates"][0].update(value=[1]), "value is [1]"),
    "huge value": (lambda arms: arms[1]["estimates"][0].update(value=10**300), "value is 1000"),
    "direction": (lambda arms: arms[1]["estimates"][0].update(higher_is_better="yes"), "is 'yes'"),
    "cost": (lambda arms: arms[1]["cost"].update(tokens=None), "tokens is None"),
    "label": (lambda arms: arms[1].update(label=["silent"]), "label is ['silent']"),
    "flips": (lambda arms: arms[1].update(repaired="one"), "repaired is 'one'"),
    "a share of 7": (lambda arms: arms[1]["estimates"][0].update(value=7.0), "value is 7.0 share"),
    "low above high": (lambda arms: arms[1]["estimates"][0].update(low=0.9, high=0.2), "from 0.9 to 0.2"),
    "a difference of 2": (lambda arms: arms[1]["differences"][0].update(value=-2.0), "value is -2.0 share"),
    "p above 1": (lambda arms: arms[1]["differences"][0].update(p=1.5), "p is 1.5"),
    "n below 0": (lambda arms: arms[1]["estimates"][0].update(n=-3), "n is -3 of 12 examples"),
    "more than asked": (lambda arms: arms[1].update(changed=13), "changed is 13 of 12 examples"),
    "time below 0": (lambda arms: arms[1]["cost"].update(seconds=-1.0), "seconds is -1.0"),
    "a metric twice": (lambda arms: arms[1]["estimates"].append(arms[1]["estimates"][0]), "stands twice"),
    "a field too much": (lambda arms: arms[1].update(fixes=[]), "an arm has the fields"),
    "a field of a number too much": (lambda arms: arms[1]["estimates"][0].update(x=1), "has the fields"),
    "an estimate of text": (lambda arms: arms[1].update(estimates="abc"), "abc.json"),
}


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
@pytest.mark.parametrize("name", DAMAGES)
def test_values_of_other_kinds_are_refused(files, tmp_path, suffix, name):
    damage, said = DAMAGES[name]
    path = tmp_path / f"abc.json{suffix}"
    rewritten(files[suffix], path, lambda content: damage(content["arms"]))
    with pytest.raises(InputError, match="no comparison") as error:
        load_comparison(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_damaged_file_is_refused_or_read_and_never_crashes(files, tmp_path, suffix, place, flip, cut):
    content = bytearray(Path(files[suffix]).read_bytes())
    at = int(place * len(content))
    content = content[:at] if cut else content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(content))
    try:
        again = load_comparison(path)
    except InputError:
        return
    assert not cut
    assert len(again.frame) == 48


def test_pages_and_figures_show_what_was_found_and_run_nothing(found):
    page = found._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "silent" in page
    assert found.task in repr(found)
    figure = found.plot()
    assert [note.text for note in figure.layout.annotations] == list(found.arms[0].estimates)
    one = found.plot("accuracy")
    assert len(one.data) == 1
    assert list(one.layout.yaxis.ticktext) == ["silent", html.escape(SCRIPT), "learned"]
    assert one.data[0].x[0] == found["silent"].main.value
    with pytest.raises(InputError, match="no metric 'f1'"):
        found.plot("f1")


def test_the_table_has_a_row_per_arm_and_metric(found):
    table = found.to_frame()
    assert len(table) == 4 * 3
    first = table[table["arm"] == "none"]
    assert first["difference"].isna().all()
    row = table[(table["arm"] == "silent") & (table["metric"] == "accuracy")].iloc[0]
    change = found["silent"].main
    assert (row["difference"], row["difference_low"], row["p"], row["p_holm"]) == (
        change.value,
        change.low,
        change.p,
        change.p_holm,
    )
    assert row["repaired"] == found["silent"].repaired
    assert row["value"] == found["silent"].estimates["accuracy"].value
