"""Spec files that are damaged or made to harm: one clear error each, soon, or a spec that is what it says."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise import fixes
from headwise.fixes.spec.file import parse
from headwise.fixes.spec.parameters import from_entry
from headwise.fixes.spec.specs import Spec, load_spec, save_spec
from headwise.text import visible
from tests.tiny import ARCHITECTURES

SOON = 3.0
"""Seconds; a spec that is as large as one may be takes one of them."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a spec with one fix of each kind that can be written."""
    path = tmp_path_factory.mktemp("spec") / "good.json"
    several = [
        fixes.ZeroHeads(heads=((0, 1),)),
        fixes.ScaleHeads(heads=((1, 1),), factor=0.5, tower="vision"),
        fixes.SetRows(heads=((1, 0),), row=-1, weights={0: 0.5, 2: 0.5}),
        fixes.MaskKeys(keys=(3,)),
        fixes.ACT(heads=((1, 2),)),
        fixes.VAR(sink_dims=(3,), layers=(1,)),
        fixes.VHR(),
    ]
    save_spec(path, several, ARCHITECTURES["llava"].build())
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sha256"]  # as one who writes by hand
    return content


def _refused(path: Path) -> str:
    """What the one error says."""
    start = time.process_time()
    with pytest.raises(hw.HeadwiseError) as caught:
        load_spec(path)
    assert time.process_time() - start < SOON
    said = str(caught.value)
    assert said.endswith(".")
    assert len(said) < 1500
    assert visible(said) == said
    return said


BYTES = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\n", "the file is empty"),
    "words": (b"not a spec", "line 1, column 1"),
    "pickle": (b"\x80\x04\x95\x10", "byte 0 is not UTF-8"),
    "latin": ('{"name": "déjà"}'.encode("latin-1"), "byte 11 is not UTF-8"),
    "list": (b"[]", "names no schema version"),
    "number": (b"1", "names no schema version"),
    "no version": (b"{}", "names no schema version"),
    "version as text": (b'{"schema": "1"}', "names no schema version"),
    "version as truth": (b'{"schema": true}', "names no schema version"),
    "newer": (b'{"schema": 4, "what": "ever"}', "Upgrade headwise."),
    "older": (b'{"schema": 2}', "has schema version 2, and this version of headwise reads 3"),
    "twice": (b'{"schema": 1, "schema": 1}', "'schema' stands twice"),
    "nan": (b'{"schema": NaN}', "NaN is not a number"),
    "infinity": (b'{"schema": 1, "fixes": [-Infinity]}', "-Infinity is not a number"),
    "overflow": (b'{"schema": 1, "fixes": 1e999}', "1e999 is out of range"),
    "large": (b'{"schema": ' + b"9" * 5000 + b"}", "is out of range"),
    "deep list": (b"[" * 90_000, "nested too deeply"),
    "deep object": (b'{"a":' * 90_000, "nested too deeply"),
    "deep and whole": (b"[" * 500 + b"]" * 500, "nested more than 16 deep"),
    "half a character": (b'{"schema": 1, "fixes": "\\ud800"}', "half of a character"),
    "escapes": (b'{"\\u001b[31m": 1, "\\u001b[31m": 2}', "stands twice"),
    "two documents": (b'{"schema": 1} {"schema": 1}', "Extra data"),
    "a million numbers": (b"[" + b"0," * 999_999 + b"0]", "more than 100,000 values"),
    "more than 4 MiB": (b'"' + b"x" * (4 * 2**20) + b'"', "the limit is 4,194,304"),
}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_are_no_specs_are_refused(name: str, tmp_path: Path) -> None:
    content, said = BYTES[name]
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    assert said in _refused(path)


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in _refused(tmp_path)
    assert "no such spec file" in _refused(tmp_path / "none.json")
    assert "no such spec file" in _refused(tmp_path / "\x1b[31m.json")
    assert "spec" in _refused(Path("/dev/zero"))
    assert "spec" in _refused(Path("a\0b"))
    assert "spec" in _refused(Path("x" * 5000))


def _cut(content: dict[str, Any], *path: Any) -> Any:
    for part in path:
        content = content[part]
    return content


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: _cut(content, *path[:-1]).__setitem__(path[-1], to)


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: _cut(content, *path[:-1]).__delitem__(path[-1])


ZERO, SCALE, ROWS, KEYS, ACT, VAR, VHR = ([("fixes"), number, "parameters"] for number in range(7))
CHANGES = {
    "unknown key": (_set("extra", to=1), "extra: Extra inputs"),
    "unknown key of the model": (_set("model", "colour", to=1), "model.colour: Extra inputs"),
    "no model": (_drop("model"), "model: Field required"),
    "no weights": (_drop("model", "weights"), "model.weights: Field required"),
    "weights": (
        _set("model", "weights", "digest", to="../../x"),
        "model.weights.digest: String should match",
    ),
    "sample": (
        _set("model", "weights", "sample", to="<script>"),
        "model.weights.sample: String should match",
    ),
    "bent sample": (_set("model", "weights", "sample", to="AAA"), "model.weights.sample: Value error"),
    "layers": (_set("model", "towers", 0, "layers", to=[-1]), "greater than or equal to 0"),
    "no fixes": (_set("fixes", to=[]), "fixes: Tuple should have at least 1 item"),
    "many fixes": (_set("fixes", to=[{"fix": "x", "parameters": {}}] * 101), "at most 100 items"),
    "versions": (_set("versions", to=None), "versions: Input should be"),
    "unknown fix": (_set("fixes", 0, "fix", to="zero_head"), "close: zero_heads"),
    "import path": (_set("fixes", 0, "fix", to="os:system"), "There is no fix 'os:system'"),
    "escape in a name": (_set("fixes", 0, "fix", to="\x1b[31m"), "There is no fix '\\x1b[31m'"),
    "long name": (_set("fixes", 0, "fix", to="x" * 10**6), "at most 100 characters"),
    "tensor": (
        _set("fixes", 0, to={"fix": "replace", "parameters": {"quantity": "z", "layer": 0, "value": [1]}}),
        "value is a tensor",
    ),
    "unknown parameter": (_set(*ZERO, "head", to=1), "zero_heads has no parameter 'head'. (close: heads"),
    "many unknown": (lambda c: _cut(c, *ZERO).update({f"\n{i}": 1 for i in range(99)}), "and 94 more"),
    "field that is no parameter": (_set(*VAR, "space", to={}), "var has no parameter 'space'"),
    "missing parameter": (_drop(*ROWS, "row"), "set_rows lacks the parameter 'row'. (given: heads, weights"),
    "number as text": (_set(*SCALE, "factor", to="0.5"), "'factor' of scale_heads cannot be \"0.5\""),
    "truth as number": (_set(*ROWS, "row", to=True), "'row' of set_rows cannot be true"),
    "share above 1": (_set(*VAR, "p", to=1.5), "p must lie between 0 and 1. (got 1.5)"),
    "weights below 0": (_set(*ROWS, "weights", to=[[0, -1.0], [1, 2.0]]), "zero or more and sum to 1"),
    "head below 0": (_set(*ZERO, "heads", to=[[0, -1]]), "count from 0"),
    "heads flat": (_set(*ZERO, "heads", to=[0, 1]), "'heads' of zero_heads cannot be [0, 1]"),
    "heads as text": (_set(*ZERO, "heads", to="all"), "'heads' of zero_heads cannot be \"all\""),
    "30,000 bad heads": (_set(*ZERO, "heads", to=[["\x1b", 0]] * 30_000), "and 29999 more"),
    "tower": (_set(*ZERO, "tower", to="\x1b[2J" + "y" * 10**5), "There is no tower"),
    "kind": (_set(*ZERO, "kind", to=None), "'kind' of zero_heads cannot be null"),
    "word": (_set(*VHR, "choose", to="best"), "'choose' of vhr cannot be \"best\""),
    "nested": (_set(*KEYS, "keys", to=[[[3]]]), "'keys' of mask_keys cannot be [[[3]]]"),
    "object": (_set(*ACT, "alpha", to={"__class__": "os.system"}), "'alpha' of act cannot be"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_spec_that_says_something_wrong_is_refused(name: str, good: dict[str, Any], tmp_path: Path) -> None:
    change, said = CHANGES[name]
    content = copy.deepcopy(good)
    change(content)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(content))
    assert said in _refused(path)


def test_every_shorter_file_is_refused(good: dict[str, Any], tmp_path: Path) -> None:
    text, path = json.dumps(good, indent=1), tmp_path / "spec.json"
    for length in range(0, len(text), 97):
        path.write_text(text[:length])
        with pytest.raises(hw.FixError, match="not valid JSON"):
            load_spec(path)


@pytest.mark.slow
def test_a_spec_as_large_as_one_may_be_is_read_soon(good: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(good)
    content["fixes"] = [{"fix": "zero_heads", "parameters": {"heads": [[0, 1]] * 30_000}}]
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(content))
    start = time.process_time()
    assert len(load_spec(path).fixes[0].heads) == 30_000
    assert time.process_time() - start < SOON


def test_a_fix_that_cannot_cope_with_a_value_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fix: Any) -> None:
        raise ZeroDivisionError("\x1b[31m" + "x" * 10_000)

    monkeypatch.setattr(fixes.ZeroHeads, "__post_init__", fails)
    from headwise.fixes.spec.file import Entry

    with pytest.raises(hw.FixError, match="cannot be made from its parameters") as caught:
        from_entry(Entry(fix="zero_heads", parameters={"heads": []}))
    assert visible(str(caught.value)) == str(caught.value)
    assert len(str(caught.value)) < 500


# Anything at all

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["heads", "factor", "text", "schema", "fix", "auto", "image", "var", "zero_heads"])
ODD = [0, 1, -1, 2**53, 2**63, 0.5, 1e308, -0.0, [], {}, [[0, 1]], [[0, 0.5]]]
VALUES = JSON | WORDS | st.sampled_from(ODD).map(copy.deepcopy)
TOLERANT = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in _places(item, (*path, key))]


def _spec_or_error(content: bytes, folder: Path) -> Spec | None:
    path = folder / "any.json"
    path.write_bytes(content)
    said = ""
    try:
        spec = load_spec(path)
    except hw.HeadwiseError as error:
        spec, said = None, str(error)
    assert visible(said) == said
    if spec is None:
        return None
    assert all(type(fix) in map(fixes.get, fixes.names()) for fix in spec.fixes)
    return spec


@TOLERANT
@given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_bytes_are_refused_or_are_a_spec(content: bytes, tmp_path: Path) -> None:
    assert _spec_or_error(content, tmp_path) is None


@TOLERANT
@given(value=JSON)
def test_any_json_is_refused_or_is_a_spec(value: Any, tmp_path: Path) -> None:
    _spec_or_error(json.dumps(value).encode(), tmp_path)


@pytest.mark.slow
@TOLERANT
@given(data=st.data())
def test_a_spec_with_anything_in_any_place_is_refused_or_is_a_spec(
    good: dict[str, Any], data: st.DataObject, tmp_path: Path
) -> None:
    content = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(_places(content)))
        holder = _cut(content, *place[:-1])
        action = data.draw(st.sampled_from(["put", "put", "put", "drop", "add"]))
        if action == "drop":
            del holder[place[-1]]
        elif action == "add" and isinstance(holder, dict):
            holder[data.draw(st.text(max_size=8) | WORDS)] = data.draw(VALUES)
        else:
            holder[place[-1]] = data.draw(VALUES)
        if not content:
            break
    spec = _spec_or_error(json.dumps(content).encode(), tmp_path)
    for fix in spec.fixes if spec else ():
        for value in vars(fix).values():
            assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.slow
@TOLERANT
@given(data=st.data())
def test_a_spec_with_bytes_changed_is_refused_or_is_a_spec(
    good: dict[str, Any], data: st.DataObject, tmp_path: Path
) -> None:
    content = bytearray(json.dumps(good).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    _spec_or_error(bytes(content), tmp_path)


def test_parsing_needs_no_file(good: dict[str, Any]) -> None:
    assert len(parse(json.dumps(good).encode(), where="memory").fixes) == 7
