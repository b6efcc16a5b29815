"""Pairs in words, and the command that finds a circuit on them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import headwise as hw
from headwise.circuits.circuit import load_circuit, require_same_convention
from headwise.circuits.drawn import drawn_pairs
from headwise.circuits.texts import EXAMPLE, text_pairs
from headwise.cli.app import app
from headwise.errors import InputError
from headwise.subject import Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return hw.load("zoo:lm")


ROW = {"clean": "Luke and Alice met, Luke spoke to", "corrupted": "Luke and Alice met, Alice spoke to"} | {
    "correct": " Alice",
    "wrong": " Luke",
}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "no pairs"),
        ([{"clean": "a"}], "incomplete"),
        (["a"], "incomplete"),
        ([{**ROW, "correct": " Alice spoke"}], "one token"),
        ([{**ROW, "corrupted": "Alice spoke to"}], "not equally long"),
        ([{**ROW, "wrong": " Alice"}], "wrong one"),
    ],
)
def test_pairs_that_are_none_are_refused(subject, rows, told) -> None:
    with pytest.raises(InputError, match=told):
        text_pairs(subject, rows)


def test_a_pair_in_words(subject) -> None:
    pairs = text_pairs(subject, [ROW])
    assert subject.tokenizer.decode(pairs.correct) == " Alice"
    assert pairs.clean[0]["input_ids"].shape == pairs.corrupted[0]["input_ids"].shape


def test_an_unknown_task_is_refused(subject) -> None:
    with pytest.raises(InputError, match="ioi"):
        drawn_pairs(subject, "iio")


@pytest.mark.slow
def test_the_command_writes_a_circuit_that_can_be_read(tmp_path, subject) -> None:
    file, out = tmp_path / "mine.jsonl", tmp_path / "ioi.json"
    arguments = ["circuit", "zoo:lm", "--method", "eap", "--edges", "150", "--out", str(out)]
    found = CliRunner().invoke(app, [*arguments, "--task", "ioi", "-n", "4"])
    assert found.exit_code == 0, found.output
    drawn = load_circuit(out)
    assert drawn.about["task"] == "ioi"
    assert drawn.about["faithfulness"] > 0.8
    file.write_text(json.dumps(ROW))
    assert CliRunner().invoke(app, [*arguments, "--pairs", str(file)]).exit_code == 0
    own = load_circuit(out)
    assert own.about["task"] == "mine"
    require_same_convention(drawn, own)
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_example_of_the_documentation_is_complete() -> None:
    assert list(EXAMPLE) == ["clean", "corrupted", "correct", "wrong"]
