"""Files of results: nothing lost, nothing believed that was changed, whatever the type and the format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.results.columns import NULLABLE, NUMBERS
from headwise.results.plain import plain, restored
from headwise.results.result import Result, load_result
from tests.kit.result_files import rewritten

FORMATS = (".json", ".parquet")
INF, NAN = float("inf"), float("nan")
ODD: dict[str, list[Any]] = {
    "finite": [0.1, -0.0, 1e308, 5e-324, 1 / 3],
    "not finite": [INF, -INF, NAN, 1.0],
    "only NaN": [NAN, NAN],
    "none": [],
}


def result_of(values: Any, dtype: Any = None, **facts: Any) -> Result:
    """A result of named rows with these values."""
    column = pd.Series(values, dtype=dtype)
    frame = pd.DataFrame({"name": pd.Series([f"row {place}" for place in range(len(column))], dtype="str")})
    known = {"unit": "points", "description": "", "summary": "", "provenance": {}}
    return Result(
        name="n", kind="rows", keys=("name",), value="v", frame=frame.assign(v=column), **(known | facts)
    )


def with_column(column: Any) -> Result:
    """A result with one more column."""
    made = result_of([1.0] * len(column))
    return replace(made, frame=made.frame.assign(more=column))


def again(result: Result, folder: Path, suffix: str) -> Result:
    return load_result(result.save(folder / f"x{suffix}"))


def assert_same(back: Result, result: Result) -> None:
    pd.testing.assert_frame_equal(back.frame, result.frame, check_exact=True)
    for name in result.frame.select_dtypes("float"):
        signs = [np.signbit(item[name].to_numpy(float, na_value=1.0)) for item in (back.frame, result.frame)]
        np.testing.assert_array_equal(*signs)
    assert replace(back, frame=result.frame) == replace(result, frame=result.frame)


@pytest.mark.parametrize("suffix", FORMATS)
class TestNothingIsLost:
    @pytest.mark.parametrize("values", ODD.values(), ids=ODD)
    @pytest.mark.parametrize("dtype", ["float32", "float64", "Float64"])
    def test_of_numbers_of_any_size(self, tmp_path, suffix, dtype, values):
        with np.errstate(over="ignore", under="ignore"):
            made = result_of(pd.array(np.array(values, dtype=dtype.lower()), dtype=dtype))
        assert_same(again(made, tmp_path, suffix), made)

    @pytest.mark.parametrize("dtype", [*NUMBERS, *NULLABLE])
    @pytest.mark.parametrize("count", [0, 3])
    def test_of_any_type(self, tmp_path, suffix, dtype, count):
        made = with_column(pd.array([1, 0, 1][:count], dtype=dtype))
        assert_same(again(made, tmp_path, suffix), made)

    @pytest.mark.parametrize("dtype", NULLABLE)
    def test_of_numbers_that_are_missing(self, tmp_path, suffix, dtype):
        made = with_column(pd.array([1, None, 0], dtype=dtype))
        assert_same(again(made, tmp_path, suffix), made)

    @pytest.mark.parametrize("dtype", ["str", "object", "string"])
    def test_of_texts(self, tmp_path, suffix, dtype):
        made = with_column(pd.Series(["", "ä\u2028\x00𝄞", None, "null", "<b>"], dtype=dtype))
        assert_same(again(made, tmp_path, suffix), made)

    def test_of_lists_and_mixtures(self, tmp_path, suffix):
        cells = [[1, [2.5, "a"]], {"b": None, "a": INF}, None, "x", 3, True, {"$float": "inf"}, [], 2**70]
        made = with_column(pd.Series(cells, dtype=object))
        assert_same(again(made, tmp_path, suffix), made)

    def test_of_what_is_known_about_them(self, tmp_path, suffix):
        facts = {"epsilon": INF, "seed": np.int64(3), "sizes": (1, 2), "$float": {"$float": "x"}, "n": -0.0}
        back = again(result_of([1.0], provenance=facts, summary="ä\n\u2028"), tmp_path, suffix)
        assert back.provenance == {**facts, "sizes": [1, 2]}
        assert back.summary == "ä\n\u2028"

    def test_of_whole_numbers_beyond_doubles(self, tmp_path, suffix):
        made = with_column(pd.array([2**63 - 1, -(2**63), 2**53 + 1], dtype="int64"))
        assert_same(again(made, tmp_path, suffix), made)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$float", "a", "b", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(json_values)
def test_any_value_comes_back_from_json(value):
    text = json.dumps(plain(value), allow_nan=False)
    assert repr(restored(json.loads(text))) == repr(value)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(json_values, max_size=4))
def test_any_column_comes_back(tmp_path, suffix, values):
    made = with_column(pd.Series(values, dtype=object))
    back = again(made, tmp_path, suffix)
    assert repr(back.frame["more"].to_list()) == repr(made.frame["more"].to_list())


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pd.to_datetime(["2020-01-01"]), "datetime64"),
        (pd.Series(["a"], dtype="category"), "category"),
        (pd.Series([1j]), "complex128"),
        (pd.Series([object()]), "object"),
        (pd.Series(["\ud800"], dtype=object), "surrogates"),
        (pd.Series([["\ud800"]], dtype=object), "cannot hold"),
        (pd.Series([{1: 2, "1": 3}], dtype=object), "cannot hold"),
    ],
)
def test_what_no_file_can_hold_is_refused(tmp_path, column, said):
    for suffix in FORMATS:
        with pytest.raises(InputError, match=f"column 'more' cannot be saved.*{said}"):
            with_column(column).save(tmp_path / f"x{suffix}")
    with pytest.raises(InputError, match="A file cannot hold this value"):
        result_of([1.0], provenance={"where": "\udcff"}).save(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["name", "v", 3], ["name", "v", "v"]])
def test_columns_without_a_name_of_their_own_are_refused(tmp_path, names):
    made = with_column([2.0])
    made.frame.columns = names
    with pytest.raises(InputError, match="named by texts, each once"):
        made.save(tmp_path / "x.json")


@pytest.mark.parametrize("suffix", [".JSON", ".Parquet", ".CSV", ".HTML"])
def test_suffixes_are_read_in_any_case(tmp_path, suffix):
    path = result_of([1.0]).save(tmp_path / f"x{suffix}")
    assert path.read_bytes()[:4] in (b"PAR1", b'{\n "', b"name", b"<!do")
    if suffix.lower() in FORMATS:
        assert load_result(path).frame["v"].to_list() == [1.0]
    with pytest.raises(InputError, match=r"cannot be written as \.txt"):
        result_of([1.0]).save(tmp_path / "x.txt")


DAMAGES = {
    "a text as number": (lambda file: file["rows"][0].__setitem__(1, "0.2"), "str in a column of float64"),
    "truth as number": (lambda file: file["rows"][0].__setitem__(1, True), "bool in a column of float64"),
    "a number as text": (lambda file: file["rows"][0].__setitem__(0, 1), "int in a column of texts"),
    "an unknown mark": (lambda file: file["rows"][0].__setitem__(1, {"$float": "1"}), "is '1'"),
    "a short row": (lambda file: file["rows"][0].pop(), "does not have the columns"),
    "an unknown type": (lambda file: file["columns"].update(v="datetime64[ns]"), "column of 'datetime64"),
    "one name twice": (lambda file: file["rows"].append(file["rows"][0]), "two rows have the same name"),
    "an unknown kind": (lambda file: file.update(kind="pie"), "no kind of result 'pie'"),
    "a word as keys": (lambda file: file.update(keys="name"), "keys is 'name'"),
    "numbers as keys": (lambda file: file.update(keys=[1]), "keys are"),
    "one field more": (lambda file: file.update(code="x"), "fields: code"),
    "no summary": (lambda file: file.pop("summary"), "fields: summary"),
    "a share of 7": (lambda file: file.update(unit="share"), "7 is no 'v' in share"),
    "a newer format": (
        lambda file: file.update(result=99),
        "format 99, and this version of headwise reads 3",
    ),
    "an older format": (lambda file: file.update(result=2), "format 2, and this version of headwise reads 3"),
    "no format": (lambda file: file.pop("result"), "names no format"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_values_that_cannot_be_are_refused(tmp_path, name):
    damage, said = DAMAGES[name]
    whole = result_of([7.0, 1.0]).save(tmp_path / "x.json")
    with pytest.raises(InputError, match="This file is no result") as error:
        load_result(rewritten(whole, tmp_path / "y.json", damage))
    assert said in str(error.value)
