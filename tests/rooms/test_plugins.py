"""Names that are not known: each way to say one gives the nearest that there are, and is an error of ours."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from importlib import import_module, metadata
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise import plugins
from headwise.analyses.calls import analysis_call
from headwise.cli.task_options import options_of
from headwise.errors import FixError, InputError, UnknownAttribute
from headwise.evaluation.comparison.space import space_of
from headwise.evaluation.registry import find_task
from headwise.fixes.parsing import parse_fix
from headwise.plugins import Plugins, as_known, close_names, entry_points, read_options, split_call
from headwise.probes.trace.trace import Trace
from headwise.testing import check_analysis, check_fix, tiny_model

LAZY = {
    "headwise": ("captur", "capture"),
    "headwise.analyses": ("entrpy", "entropy"),
    "headwise.evaluation": ("find_tsk", "find_task"),
    "headwise.fixes": ("Zerohead", "ZeroHeads"),
    "headwise.reports": ("changed_exmples", "changed_examples"),
}
OWN_ANALYSES = hw.analyses.names()


@pytest.mark.parametrize("name", LAZY)
def test_a_module_says_what_is_near_and_keeps_pythons_protocol(name):
    module, (wrong, right) = import_module(name), LAZY[name]
    with pytest.raises(UnknownAttribute, match=rf"no attribute '{wrong}'.*close: {right}") as found:
        getattr(module, wrong)
    for again in (pickle.loads(pickle.dumps(found.value)), copy.copy(found.value)):
        assert str(again) == str(found.value)
    assert not hasattr(module, wrong)
    assert getattr(module, wrong, 3) == 3
    assert right in dir(module)
    with pytest.raises(AttributeError) as private:
        getattr(module, "__nothing__")  # noqa: B009
    assert not isinstance(private.value, UnknownAttribute)
    with pytest.raises(ImportError):
        exec(f"from {name} import {wrong}")


@pytest.mark.parametrize("name", OWN_ANALYSES)
def test_arguments_of_every_analysis_are_refused_before_it_runs(name):
    analysis = hw.analyses.get(name)
    wrong = [
        ((), {}),
        (([],), {"hed": 3}),
        (([], 1, 2, 3), {}),
        ((3,), {}),
        ((None,), {}),
        (("a.safetensors",), {}),
    ]
    wrong += [(([],), {parameter: object()}) for parameter in analysis.parameters]
    for args, kwargs in wrong:
        with pytest.raises(InputError, match=name):
            analysis(*args, **kwargs)


def test_a_misspelt_argument_is_told_its_name_and_the_call():
    with pytest.raises(
        InputError, match=r"sinks has no parameter 'epsilom'. \(close: epsilon\) Call it as sinks\(trace"
    ):
        hw.analyses.sinks(Trace({}), epsilom=0.2)
    with pytest.raises(
        InputError, match=r"missing a required argument: 'trace'\) Call it as distance\(trace\)"
    ):
        hw.analyses.distance()


@pytest.mark.parametrize("number", [0.25, np.float32(0.25), np.float64(0.25)])
def test_numbers_of_numpy_are_numbers(number):
    assert hw.analyses.sinks._bind((Trace({}), number), {}).arguments["epsilon"] == 0.25


def test_parameters_without_a_type_that_can_be_read_are_taken_as_they_are():
    def table(trace, free, late: Nowhere, own: Trace): ...  # noqa: F821

    record = hw.analyses.analysis(
        kind="rows", keys=(), value="v", unit="", description="", summary=lambda frame: ""
    )(table)
    given = {"free": "1", "late": "None", "own": 5}
    assert record._bind((1,), given).arguments == {"trace": 1, **given}


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: check_analysis("entrpy"), InputError, "close: entropy"),
        (lambda: check_analysis(len), InputError, "An analysis is named"),
        (lambda: check_analysis("sinks:epsilom=1"), InputError, "close: epsilon"),
        (lambda: check_analysis("entropy", models=["lama"]), InputError, "'lama'. .close: llama"),
        (lambda: check_analysis("entropy", models="llama"), InputError, "a list of names"),
        (lambda: check_analysis("entropy", models=()), InputError, "a list of names"),
        (lambda: check_fix(len), FixError, "not a fix"),
        (lambda: check_fix("VAR"), FixError, r"hw.fixes.VAR\(\)"),
        (lambda: check_fix(hw.fixes.ZeroHeads), FixError, "not a fix"),
        (lambda: check_fix(hw.fixes.VAR(), neutral=1), FixError, "not a fix"),
        (lambda: check_fix(hw.fixes.VAR(), models=["lama"]), InputError, "close: llama"),
        (lambda: check_fix(hw.fixes.VAR(), exempt=["causalty"]), InputError, "close: causality"),
        (lambda: check_fix(hw.fixes.VAR(), exempt="causality"), InputError, "a list of names"),
        (lambda: tiny_model("gtp2"), InputError, "close: gpt2"),
        (lambda: hw.analyses.get(None), InputError, "no analysis None"),
        (lambda: parse_fix("VAR:p=0.4,p=0.5"), InputError, "'p' of VAR is given twice"),
        (lambda: parse_fix("VAR:p=0.4,P=0.5"), InputError, "'p' of VAR is given twice"),
        (lambda: analysis_call("sinks:epsilon"), InputError, "for example sinks:epsilon=0.2"),
        (lambda: parse_fix("VAR:p"), InputError, "for example VAR:p=0.4"),
        (lambda: options_of(["n=1", "n=2"]), InputError, "set twice"),
        (lambda: space_of(hw.fixes.VAR(), {"p": (0, 1), "P": (0, 1)}), InputError, "'p' is given twice"),
        (lambda: space_of(hw.fixes.VAR(), {"rhoo": (0, 1)}), InputError, "close: rho"),
    ],
)
def test_what_is_no_name_is_one_clear_error(call, error, said):
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize(
    "write", [str, str.upper, lambda name: name.replace("_", "-"), lambda name: name.replace("_", "")]
)
def test_names_of_options_may_be_written_as_names_of_things_may(write):
    assert analysis_call(f"{write('sink_rate')}:{write('epsilon')}=0.2").parameters == {"epsilon": 0.2}
    assert analysis_call(f"sinks:{write('min_rows')}=8").parameters == {"min_rows": 8}
    assert parse_fix(f"{write('zero_heads')}:{write('heads')}=[[0,1]]").heads == ((0, 1),)
    assert find_task(write("pope-random"), **{write("noise"): "1.8"}).noise == 1.8
    assert space_of(hw.fixes.VAR(), {write("rho"): (0, 1)}).bounds == {"rho": (0, 1)}


def test_names_in_a_file_are_written_as_they_are():
    with pytest.raises(InputError, match=r"no parameter 'P'.*close: p"):
        read_options("VAR", {"p": float}, {"P": 0.4}, source="json")


NAMES = st.text("aB-_é", max_size=4)


@settings(max_examples=50)
@given(st.lists(NAMES, max_size=5), NAMES)
def test_a_name_is_found_as_itself_or_as_the_only_one_alike(known, name):
    found = as_known(name, known)
    assert found is None or found in known
    assert name not in known or found == name
    assert close_names(name, known).startswith("close: " if known else "there is none")


@given(st.text(max_size=30))
def test_a_line_is_a_call_or_an_error_of_ours(text):
    try:
        name, options = split_call(text)
    except InputError:
        return
    assert all(option and value for option, value in options.items())
    assert name in text


def test_metadata_are_read_once_per_group(monkeypatch):
    read = []
    monkeypatch.setattr(
        plugins.metadata, "entry_points", lambda group: read.append(group) or metadata.EntryPoints(())
    )
    codecs = Plugins("codec", "headwise.test_codecs", {"json": "json:dumps"})
    for _ in range(3):
        codecs.get("JSON")
    assert read == ["headwise.test_codecs"]
    entry_points.cache_clear()


def test_importing_headwise_reads_no_metadata():
    code = "import sys, headwise; print('importlib.metadata' in sys.modules, 'difflib' in sys.modules)"
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == [
        "False",
        "False",
    ]


class TestReadersOfOptions:
    def test_they_are_made_once(self, monkeypatch):
        import pydantic

        made = []

        class Counted(pydantic.TypeAdapter):
            def __init__(self, kind: Any, **more: Any) -> None:
                made.append(kind)
                super().__init__(kind, **more)

        monkeypatch.setattr(pydantic, "TypeAdapter", Counted)
        kind = tuple[Literal["made once"], ...]
        for _ in range(3):
            assert read_options("A", {"p": kind}, {"p": ["made once"]}, source="json") == {
                "p": ("made once",)
            }
        assert made == [kind]

    def test_unions_in_another_order_stay_other_kinds(self):
        one, two = set[int] | frozenset[int], frozenset[int] | set[int]
        assert one == two
        for kind, found in ((one, set), (two, frozenset), (one, set)):
            assert type(read_options("A", {"p": kind}, {"p": "[1]"})["p"]) is found

    def test_annotations_that_have_no_hash_are_read(self):
        assert read_options("A", {"p": Annotated[int, []]}, {"p": "1"}) == {"p": 1}
