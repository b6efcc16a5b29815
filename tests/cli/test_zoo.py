"""`headwise eval`, `tasks`, `zoo`, `demo`, and reports on the zoo's own inputs."""

from __future__ import annotations

import json

import pytest

import headwise as hw
from headwise.evaluation import task_names
from headwise.zoo import NAMES, zoo_folder
from tests.kit.cli import assert_one_line, process, run


def test_eval_prints_every_metric_with_its_interval():
    result = run("eval", "zoo:lm", "--task", "ioi", "-n", 20)
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head == "ioi, n = 20, seed 0: value and 95 % interval"
    assert [row.split()[0] for row in rows] == ["accuracy", "logit_difference", "preferred"]


def test_eval_as_json_is_the_python_result(tmp_path):
    out = tmp_path / "ioi.parquet"
    answer = json.loads(run("eval", "zoo:lm", "--task", "ioi", "-n", 20, "--out", out, "--json").stdout)
    found = hw.evaluate(hw.load("zoo:lm"), "ioi", n=20)
    assert answer["estimates"] == [item.to_dict() for item in found.estimates.values()]
    assert answer["manifest"]["ids"] == found.manifest["ids"]
    assert hw.load_evaluation(out).frame.equals(found.frame)


@pytest.mark.parametrize(("bound", "status"), [("accuracy=0", 0), ("logit_difference=99", 1)])
def test_a_metric_below_what_was_asked_for_is_status_1(bound, status):
    result = run("eval", "zoo:lm", "--task", "ioi", "-n", 10, "--min", bound)
    assert result.exit_code == status
    assert ("failed: " in result.stdout) == bool(status)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task", "poep"], "close: pope"),
        (["--task", "ioi", "--set", "shots=1"], "no option 'shots'"),
        (["--task", "ioi", "--set", "data"], "OPTION=VALUE"),
        (["--task", "recall", "--set", "pairs=3", "--set", "pairs=4"], "set twice"),
        (["--task", "colored-objects", "--set", "shots=many"], "cannot be 'many'"),
        (["--task", "ioi", "--min", "acuracy=1"], "no metric 'acuracy'"),
        (["--task", "ioi", "--max", "accuracy=x"], "needs a number"),
        (["--task", "ioi", "--out", "ioi.docx"], "cannot be written as .docx"),
        (["--task", "ioi", "--out", "no/such/folder.json"], "does not exist"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(options, said):
    result = run("eval", "no/such/model", *options)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, said)


def test_every_task_is_listed():
    listed = json.loads(run("tasks", "--json").stdout)
    assert [task["name"] for task in listed] == list(task_names())
    assert all(task["about"] for task in listed)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_states_figures_with_intervals(name):
    text = run("zoo", "card", name).stdout
    assert f"# zoo:{name}" in text
    card = json.loads((zoo_folder(name) / "card.json").read_text(encoding="utf-8"))
    for figure in card["figures"]:
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["key"].split(": ")[0].split(",")[0] in text


def test_the_models_are_listed_with_their_folders():
    listed = run("zoo", "list").stdout
    assert all(f"zoo:{name} " in listed for name in NAMES)
    assert run("zoo", "path", "vlm").stdout.strip() == str(zoo_folder("vlm"))


@pytest.mark.parametrize("command", [("card", "llm"), ("path", "llm"), ("verify", "llm"), ("train", "llm")])
def test_an_unknown_model_is_one_line(command):
    result = run("zoo", *command)
    assert result.exit_code == 2
    assert_one_line(result.stdout, result.stderr, "lm")


@pytest.mark.slow
def test_verify_finds_a_figure_that_is_off(monkeypatch, tmp_path):
    from headwise.zoo_checks import cards

    true = cards.read_card("vlm")
    first = true["figures"][0]
    moved = {**first, "value": 0.5, "low": 0.49, "high": 0.51}
    measured = cards.measurements("vlm")[:1]
    monkeypatch.setattr(cards, "measurements", lambda name: measured)
    monkeypatch.setattr(cards, "read_card", lambda name: {**true, "figures": [first]})
    assert run("zoo", "verify", "vlm").exit_code == 0
    monkeypatch.setattr(cards, "read_card", lambda name: {**true, "figures": [moved]})
    result = run("zoo", "verify", "vlm")
    assert result.exit_code == 1
    assert result.stdout.startswith("OFF ")


def test_an_interval_without_width_allows_what_n_examples_cannot_exclude():
    from headwise.zoo_checks.cards import Check

    assert Check("chrf", 100.0, 100.0, 100.0, 99.5, 300).holds
    assert not Check("chrf", 100.0, 100.0, 100.0, 98.0, 300).holds
    assert not Check("chrf", 99.9, 99.8, 100.0, 99.5, 300).holds


@pytest.mark.slow
def test_a_report_on_the_zoo_needs_no_input(tmp_path):
    result = process("report", "zoo:nmt", "--out", tmp_path / "nmt.html", "--json")
    answer = json.loads(result.stdout)
    assert answer["command"].startswith("headwise report zoo:nmt --out ")
    assert {row["site"] for row in answer["layers"]} == {
        "encoder · self",
        "decoder · self",
        "decoder · cross",
    }


@pytest.mark.slow
def test_the_demo_has_a_report_for_every_modality(tmp_path):
    result = process("demo", "--out", tmp_path / "demo")
    assert result.returncode == 0, result.stderr
    index = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    for name in ("lm", "vlm", "speech", "nmt"):
        assert f'href="{name}.html"' in index
        page = (tmp_path / "demo" / f"{name}.html").read_text(encoding="utf-8")
        assert len(page) > 200_000
        assert 'id="chart-0"' in page
    assert "://" not in index
