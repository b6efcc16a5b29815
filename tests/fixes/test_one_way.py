"""One way from text to a fix: a command line, a spec and Python take the same values, and refuse the same."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise import fixes
from headwise.fixes.parsing import parse_fix
from headwise.fixes.spec.file import Entry, value_of
from headwise.fixes.spec.parameters import from_entry, parameters_of

BASE: dict[str, dict[str, Any]] = {
    "act": {},
    "mask_keys": {"keys": [1]},
    "scale_heads": {"heads": [[0, 1]], "factor": 0.5},
    "set_rows": {"heads": [[0, 1]], "row": 2, "weights": [[0, 1.0]]},
    "var": {},
    "vhr": {},
    "zero_heads": {"heads": [[0, 1]]},
}
PLACES = [(name, parameter) for name in BASE for parameter in parameters_of(fixes.get(name), name)]
WORDS = [
    "auto",
    "text",
    "cross",
    "mask",
    "10",
    "1_0",
    "a,b",
    'a"+b[',
    "[1",
    "=",
    "",
    "true",
    "\ud800",
    "naïve",
]
NUMBERS = [0, 1, -1, 10, 2**31, 0.5, 1.0, 1.9, -0.0, 1e308, True, False, float("nan"), float("inf")]
ATOMS = st.sampled_from([*NUMBERS, *WORDS, None]) | st.integers(-3, 9) | st.floats() | st.text(max_size=5)
PAIRS = st.lists(st.lists(ATOMS, min_size=2, max_size=2), max_size=3)
VALUES = (
    ATOMS
    | st.lists(ATOMS, max_size=3)
    | PAIRS
    | st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=3)
    | st.lists(st.integers(0, 9), max_size=3)
    | st.dictionaries(st.sampled_from(["0", "10", "1_0", " 1", "01", "1.0", "x"]), ATOMS, max_size=2)
)


def _or_none(make: Any) -> Any:
    """What it gives, or None where it is refused; no other error passes."""
    try:
        return make()
    except hw.HeadwiseError:
        return None


def _spec(name: str, parameters: dict[str, Any]) -> Any:
    def read() -> Any:
        try:
            values = value_of(json.dumps(parameters))
        except ValueError as error:
            raise hw.FixError(str(error)) from error
        return from_entry(Entry(fix=name, parameters=values))

    return _or_none(read)


def _text(name: str, parameters: dict[str, Any]) -> Any:
    said = ",".join(f"{option}={json.dumps(value)}" for option, value in parameters.items())
    return _or_none(lambda: parse_fix(f"{name}:{said}" if said else name))


def _all(fix: Any) -> Any:
    """Every parameter, those that are not compared as well, with their types."""
    return fix and {name: repr(value) for name, value in vars(fix).items() if name != "_of_layer"}


def check(name: str, parameters: dict[str, Any]) -> None:
    before = copy.deepcopy(parameters)
    spec, text = _spec(name, parameters), _text(name, parameters)
    assert _all(spec) == _all(text)
    python = _or_none(lambda: fixes.get(name)(**parameters))
    if spec is None:
        assert python is None
    elif python is not None:
        assert _all(python) == _all(spec)
    assert repr(parameters) == repr(before)


def test_every_fix_is_among_them() -> None:
    assert set(BASE) | {"replace"} == set(fixes.names())


@settings(max_examples=40, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_a_value_is_a_value_everywhere_or_nowhere(place: tuple[str, str], value: Any) -> None:
    name, parameter = place
    check(name, {**BASE[name], parameter: value})


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_every_value_in_every_place(place: tuple[str, str]) -> None:
    name, parameter = place
    for value in [*NUMBERS, *WORDS, None, {"10": 1}, {"1_0": 1.0}, [[1.9, 0]], [[True, 0]], ["10"], [[0, 0]]]:
        for form in (value, [value], [[value, value]], [[0, value]], {"0": value}):
            check(name, {**BASE[name], parameter: form})


LONG = "9" * 5000
REFUSED = [
    "ZERO_HEADS:heads=[[1.9,0]]",
    "ZERO_HEADS:heads=[[true,false]]",
    'ZERO_HEADS:heads=["10"]',
    'ZERO_HEADS:heads={"10":1}',
    "ZERO_HEADS:heads=[[1e400,0]]",
    "ZERO_HEADS:heads=[[0,0],[0,1.0]]",
    "VAR:p=true",
    "VAR:layers=[true]",
    'VAR:p="0.5"',
    f"VAR:p={LONG}",
    f"VHR:seed={LONG}",
    "VAR:p=NaN",
    "SCALE_HEADS:heads=[[0,0]],factor=0.5,factor=2",
    "SCALE_HEADS:heads=[[0,0]],factor=0.5,Factor=2",
    "SCALE_HEADS:heads=[[0,0]],factor=1_0",
    "SCALE_HEADS:heads=[[0,0]],factor=Infinity",
    f"SCALE_HEADS:heads=[[0,0]],factor=1{'0' * 400}",
    "SET_ROWS:heads=[[0,0]],row=true,weights=[[1,1]]",
    "SET_ROWS:heads=[[0,0]],row=1,weights=[[1.7,1]]",
    'SET_ROWS:heads=[[0,0]],row=1,weights={"1_0":1.0}',
    'SET_ROWS:heads=[[0,0]],row=1,weights={"1":0.5,"1":0.5}',
    "MASK_KEYS:keys=[true]",
    "MASK_KEYS:keys=" + "[" * 90_000,
    "ACT:source=3",
    'ACT:source="\\ud800"',
    "REPLACE:quantity=z,layer=0,value=[1]",
]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_a_spec_refuses_a_command_line_refuses(text: str) -> None:
    with pytest.raises(hw.HeadwiseError) as caught:
        parse_fix(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "make",
    [
        lambda: fixes.ZeroHeads(heads=[[1.9, 0]]),  # type: ignore[list-item]
        lambda: fixes.ZeroHeads(heads=["10"]),  # type: ignore[list-item]
        lambda: fixes.ZeroHeads(heads=((True, 0),)),
        lambda: fixes.ScaleHeads(heads=(), factor=10**400),
        lambda: fixes.ScaleHeads(heads=(), factor="0.5"),  # type: ignore[arg-type]
        lambda: fixes.MaskKeys(keys=[True]),
        lambda: fixes.SetRows(heads=(), row=True, weights={0: 1.0}),
        lambda: fixes.SetRows(heads=(), row=0, weights={0.5: 1.0}),  # type: ignore[dict-item]
        lambda: fixes.SetRows(heads=(), row=0, weights=[1.0]),  # type: ignore[list-item]
        lambda: fixes.Replace(quantity="z", layer=1.9, value=torch.zeros(1)),  # type: ignore[arg-type]
        lambda: fixes.VHR(source=3),  # type: ignore[arg-type]
    ],
)
def test_python_takes_no_other_values(make: Any) -> None:
    with pytest.raises(hw.FixError):
        make()


def test_marks_inside_of_strings_part_nothing() -> None:
    first, second = parse_fix('ACT:source="a, [b+c \\" (",beta=0.5+VHR:source=plain words')
    assert (first.source, first.beta, second.source) == ('a, [b+c " (', 0.5, "plain words")


@pytest.mark.parametrize("count", [30_000, 60_000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_many_heads_take_no_time(count: int) -> None:
    text = "ZERO_HEADS:heads=" + json.dumps([[0, head] for head in range(count)])
    start = time.process_time()
    if count == 30_000:
        assert len(parse_fix(text).heads) == count
    else:
        with pytest.raises(hw.HeadwiseError, match=r"100,000 values|the limit is"):
            parse_fix(text)
    assert time.process_time() - start < 1.0


def test_the_limits_of_a_fix_are_raised_like_all() -> None:
    with hw.file_limits(times=2):
        assert len(parse_fix(f"ZERO_HEADS:heads={json.dumps([[0, 1]] * 60_000)}").heads) == 60_000
