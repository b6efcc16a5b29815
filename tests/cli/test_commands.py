"""The command line: answers, exit statuses, what it prints where."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from transformers.utils import logging

import headwise as hw
from headwise.cli.request import Request
from tests.kit.cli import TEXT, assert_one_line, run


def test_report_writes_a_page_and_says_the_verdict(model, out):
    done = run("report", model, "--text", TEXT, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"wrote {out}" in done.stdout
    assert "entropy" in done.stdout
    assert [entry.name for entry in out.parent.iterdir()] == ["report.html"]
    page = out.read_text(encoding="utf-8")
    assert "headwise report" in page


def test_json_is_all_there_is_on_stdout(model, out):
    done = run("report", model, "--text", TEXT, "--text", "a cat", "--out", out, "--json")
    answer = json.loads(done.stdout)
    assert answer["path"] == str(out)
    assert {row["example"] for row in answer["sinks"]} <= {0, 1}
    assert 0 <= answer["heads_with_sink"] <= 1
    assert answer["provenance"]["examples"] == "2"
    assert not any("padding" in warning for warning in answer["warnings"])  # every example is run by itself
    assert done.stderr == ""


def test_the_command_of_the_report_runs_as_it_stands_beside_its_files(model, out, tmp_path, monkeypatch):
    source = tmp_path / "text.txt"
    source.write_text(f"{TEXT}\n", encoding="utf-8")
    answer = json.loads(run("report", model, "--text-file", source, "--out", out, "--json").stdout)
    again = shlex.split(answer["command"].replace(out.name, "again.html"))
    assert again[0] == "headwise"
    assert str(tmp_path) not in answer["command"]  # where files lie is their author's business
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / Path(model).name)
    assert run(*again[1:]).exit_code == 0
    pattern = re.compile(r'id="headwise-data">.*?</script>', re.DOTALL)
    pages = [path.read_text(encoding="utf-8") for path in (out, tmp_path / "again.html")]
    assert pattern.search(pages[0]).group() == pattern.search(pages[1]).group()


@pytest.mark.parametrize(("share", "status"), [(0.0, 1), (1.0, 0)])
def test_more_sinks_than_allowed_are_status_1(model, out, share, status, monkeypatch):
    monkeypatch.setattr("headwise.reports.collect.build.sink_share", lambda shares, epsilon: 0.5)
    done = run("report", model, "--text", TEXT, "--out", out, "--max-sink-share", share)
    assert done.exit_code == status
    assert ("failed: a share of 0.500 of the heads has a sink, more than 0" in done.stdout) == bool(status)
    assert out.exists()


def test_trace_saves_what_was_asked_for(model, tmp_path):
    out = tmp_path / "run.safetensors"
    done = run(
        "trace", model, "--text", TEXT, "--out", out, "--maps", "--heads", "--residual", "--qkv", "--json"
    )
    answer = json.loads(done.stdout)
    trace = hw.load_trace(out)
    assert answer["sites"] == [str(site) for site in trace.sites]
    assert answer["bytes"] == out.stat().st_size
    for view in (trace.maps, trace.heads, trace.residual, trace.queries):
        assert len(view) == 2


def test_trace_keeps_the_sites_that_are_named(model, tmp_path):
    out = tmp_path / "run.safetensors"
    assert (
        run("trace", model, "--text", TEXT, "--out", out, "--sites", "L1", "--maps-of", "L1H1").exit_code == 0
    )
    trace = hw.load_trace(out)
    assert [site.layer for site in trace.sites] == [1]
    assert trace.head_numbers(trace.sites[0]) == (1,)
    refused = run("trace", "no/model", "--text", TEXT, "--out", out, "--sites", "self cross")
    assert refused.exit_code == 2
    assert "sites='self cross' names no sites" in refused.stderr


def test_trace_of_a_generation_has_a_row_for_every_step(model, tmp_path):
    out = tmp_path / "run.safetensors"
    assert run("trace", model, "--text", "a cat", "--out", out, "--generate", 3).exit_code == 0
    trace = hw.load_trace(out)
    assert trace.positions[trace.site(0)].tolist() == [0, 1, 2, 3, 4]


def test_doctor_prints_a_table_and_status_0(model):
    done = run("doctor", model, "--text", TEXT)
    assert done.exit_code == 0, done.output
    assert "model.layers.0.self_attn" in done.stdout
    assert "headwise and this model agree" in done.stdout
    answer = json.loads(run("doctor", model, "--json").stdout)
    assert answer["ok"] is True


def test_doctor_is_status_1_on_a_mismatch(model, monkeypatch):
    doctor = hw.doctor

    def ill(subject, inputs=None):
        report = doctor(subject, inputs)
        object.__setattr__(report, "problems", ["text self 0: patterns differ by 0.5"])
        return report

    monkeypatch.setattr("headwise.doctor", ill, raising=False)
    done = run("doctor", model)
    assert done.exit_code == 1
    assert "problem: text self 0: patterns differ by 0.5" in done.stdout


def test_unforeseen_errors_are_one_line_and_debug_shows_them(model, out, monkeypatch):
    def broken(name):
        raise KeyError("no\nsuch\u202e key")

    monkeypatch.setattr("headwise.load", broken, raising=False)
    done = run("report", model, "--text", TEXT, "--out", out)
    assert done.exit_code == 1
    assert_one_line(done.stdout, done.stderr, "add --debug")
    assert "\u202e" not in done.stderr
    shown = run("report", model, "--text", TEXT, "--out", out, "--debug")
    assert isinstance(shown.exception, KeyError)


def test_what_was_said_while_loading_is_a_warning_of_the_report(model, out, monkeypatch):
    load = hw.load

    def warns(name):
        warnings.warn("two weights are missing", stacklevel=2)
        return load(name)

    monkeypatch.setattr("headwise.load", warns, raising=False)
    answer = json.loads(run("report", model, "--text", TEXT, "--out", out, "--json").stdout)
    assert answer["warnings"][0] == "two weights are missing"
    assert "two weights are missing" in out.read_text(encoding="utf-8")


def test_a_command_leaves_the_verbosity_of_transformers_alone(model, out):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    run("report", model, "--text", TEXT, "--out", out)
    run("report", model, "--text", " ", "--out", out)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_help_and_version():
    done = run("--help")
    assert done.exit_code == 0
    assert {"report", "trace", "doctor"} <= set(done.stdout.split())
    assert run("--version").stdout == f"headwise {hw.__version__}\n"


def test_start_up_imports_nothing_heavy():
    code = (
        "import sys; from headwise.cli import app; "
        "heavy = ('torch', 'transformers', 'pandas', 'plotly', 'jinja2', 'numpy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_shell_form_quotes_what_it_holds():
    request = Request("m", texts=("it's\n\u202e",), targets=("a", "b"))
    assert request.shell("report", "--out", "a b.html") == (
        "headwise report m --text $'it\\'s\\n\\u202e' --target a --target b --out 'a b.html'"
    )
