"""What stands in the place of something else is named, with the way to what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch

import headwise as hw
from headwise import plugins
from headwise.errors import FixError, InputError, LoadError
from headwise.fixes.registry import in_place_of_a_file
from tests.kit.cli import run
from tests.kit.comparisons import small_subject
from tests.kit.subjects import multilingual_whisper

ZERO = hw.fixes.ZeroHeads(heads=((0, 0),))
OTHERS = {"dim_image": "DimImage", "plain": "Plain"}


@pytest.fixture(scope="module")
def subject():
    return small_subject()


@pytest.fixture
def saved(subject, tmp_path):
    """A saved trace."""
    with hw.capture(subject) as trace, torch.no_grad():
        subject.model(input_ids=torch.tensor([[1, 2, 3]]))
    return trace.save(tmp_path / "run.safetensors")


@pytest.mark.parametrize(
    "call",
    [
        lambda: hw.evaluate("zoo:lm", "ioi"),
        lambda: hw.compare("zoo:lm", "ioi", ["VAR"]),
        lambda: hw.search("zoo:lm", "ioi", "VAR"),
        lambda: hw.fit("zoo:lm", "ACT", "ioi"),
        lambda: hw.report("zoo:lm", "page.html"),
        lambda: hw.wrap("zoo:lm"),
        lambda: hw.capture("zoo:lm").__enter__(),
        lambda: hw.patch("zoo:lm", ZERO),
        lambda: hw.doctor("zoo:lm"),
    ],
)
def test_the_name_of_a_model_is_no_model(call):
    with pytest.raises(InputError, match=r"hw\.load\("):
        call()


@pytest.mark.parametrize("given", ["ACT", ["ACT"]])
def test_the_name_of_a_fix_is_no_fix(subject, given):
    with pytest.raises(FixError, match=r"ACT is a fix: install hw\.fixes\.ACT\(\), or what hw\.fit"):
        hw.save_spec("spec.json", given, subject)
    with pytest.raises(InputError, match=r"ACT is a fix: install hw\.fixes\.ACT\(\), or what hw\.fit"):
        hw.load_spec("ACT")


@dataclass
class DimImage:
    """Some other package's."""

    keep: float


class Plain:
    """Without parameters that can be listed."""


def test_a_fix_is_named_with_what_it_needs(monkeypatch):
    points = [EntryPoint(name, f"{__name__}:{kind}", "headwise.fixes") for name, kind in OTHERS.items()]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: EntryPoints(points if "fixes" in group else [])
    )
    assert "install hw.fixes.dim_image(keep=...) or give" in in_place_of_a_file("DimImage:keep=1")
    assert "install hw.fixes.plain() or give" in in_place_of_a_file("plain")
    assert "hw.fixes.ZeroHeads(heads=...) or give" in in_place_of_a_file("zero_heads:heads=[[0,0]]")
    assert in_place_of_a_file("winner.json") == ""


@pytest.mark.parametrize("given", ["x", type("Tokenizer", (), {}), {"a": 1}])
def test_what_reads_nothing_is_no_processor(subject, given):
    with pytest.raises(InputError, match="not a tokenizer or a processor"):
        hw.wrap(subject.model, given)
    for other in (subject, subject.model):
        with pytest.raises(InputError, match="not a tokenizer or a processor"):
            hw.wrap(subject.model, other)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: hw.load(""), "The name of the model is empty"),
        (lambda: hw.load_spec(""), "The path of the spec is empty"),
        (lambda: hw.load_evaluation(""), "The path of the evaluation is empty"),
        (lambda: multilingual_whisper().prepare(audio=""), "The path of the sound is empty"),
        (lambda: hw.report([], "page.html"), "The list of what to report on is empty"),
    ],
)
def test_what_is_empty_is_said_to_be_empty(call, what):
    with pytest.raises((InputError, LoadError), match=what):
        call()


def test_a_saved_trace_is_told_from_a_model_and_from_a_trace(saved, tmp_path):
    with pytest.raises(LoadError, match=r"a saved trace, not a model.*hw\.report\(hw\.load_trace\("):
        hw.load(saved)
    with pytest.raises(InputError, match=r"path of a saved trace, not a trace.*hw\.load_trace\("):
        hw.report(saved, tmp_path / "page.html")


@pytest.mark.parametrize("command", ["report", "trace"])
def test_a_command_says_what_its_model_is_before_what_it_lacks(command, saved, tmp_path):
    for model, said in (
        ("", "The name of the model is empty"),
        (tmp_path / "none", "There is no folder"),
        (tmp_path, "holds no config.json"),
        (saved, "is a saved trace, not a model"),
    ):
        done = run(command, model, "--out", tmp_path / "page.html")
        assert done.exit_code == 2
        assert said in done.stderr
