"""A report on a fix: before and after, the answers that changed, the circuit, what the command line says."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import headwise as hw
from headwise.figures import intervals
from headwise.figures.graph import graph_of, layer_of, places
from headwise.folders import MARK
from headwise.reports.collect.build import build_content, sort_inputs
from headwise.reports.collect.charts import difference_chart, round_ticks
from headwise.reports.collect.comparisons import (
    BROKEN,
    REPAIRED,
    before_and_after,
    changed_examples,
    shown_comparison,
)
from headwise.reports.collect.verdict import change_of
from headwise.reports.content.content import Content, HeadMap, MapPanel, ShownComparison, Table
from headwise.reports.page.page import facts, render
from tests.kit.cli import TEXT, run, save
from tests.kit.comparisons import SILENT, Next, small_subject
from tests.kit.reports import sink_trace
from tests.kit.results import made


@pytest.fixture(scope="module")
def comparison():
    return hw.compare(small_subject(), Next(), {"muted": SILENT, "key": hw.fixes.MaskKeys(keys=[0])}, n=40)


def test_the_list_has_right_to_wrong_first_and_all_that_changed(comparison):
    shown = shown_comparison(comparison, 1)
    kinds = [flip.kind for flip in shown.flips]
    assert kinds == sorted(kinds, key=(BROKEN, REPAIRED, "changed").index)
    frame = comparison.frame
    base, *others = (frame[frame["arm"] == arm.label].reset_index(drop=True) for arm in comparison.arms)
    broken = sum(int(((base["right"] == 1) & (other["right"] == 0)).sum()) for other in others)
    repaired = sum(int(((base["right"] == 0) & (other["right"] == 1)).sum()) for other in others)
    assert broken + repaired > 0
    assert (kinds.count(BROKEN), kinds.count(REPAIRED)) == (broken, repaired)


def test_the_headline_has_both_numbers_and_the_interval(comparison):
    headline = before_and_after(comparison)
    arm = comparison.best or comparison.arms[1]
    old, new = comparison.arms[0].estimates[arm.main.metric].value, arm.estimates[arm.main.metric].value
    assert headline.value == f"{100 * old:.1f} % → {100 * new:.1f} %"
    assert f"{abs(100 * arm.main.low):.1f}" in headline.detail
    assert "points" in headline.detail
    assert f"n = {comparison.n}" in headline.detail


def test_a_comparison_that_was_read_from_a_file_is_shown_alike(comparison, tmp_path):
    again = hw.load_comparison(comparison.save(tmp_path / "c.parquet"))
    assert shown_comparison(again, 1).flips == shown_comparison(comparison, 1).flips
    assert shown_comparison(again, 1).table == shown_comparison(comparison, 1).table


def test_examples_that_a_fix_changed_come_first(comparison):
    task = Next()
    found = changed_examples(comparison, task, 5)
    first = shown_comparison(comparison, 1).flips
    own = [flip for flip in first if flip.arm == comparison.arms[1].label]
    assert [one["text"] for one in found[: len(own)]] == [flip.prompt for flip in own][:5]
    assert len(changed_examples(comparison, task, 40)) == 40
    with pytest.raises(hw.InputError, match="does not have the examples"):
        changed_examples(comparison, hw.evaluation.find_task("recall"), 2)


def test_trace_and_comparison_are_one_page(comparison):
    content = build_content([sink_trace(), comparison])
    assert content.verdict[0].startswith(comparison.summary[:40])
    page = render(content)
    assert "plotly" not in page.lower()
    assert 'id="chart-0"' in page
    said = json.loads(re.search(r'id="headwise-facts">(.*?)</script>', page, re.DOTALL)[1])
    assert said["changed_answers"]
    assert said["evaluation-1"][0]["fix" if "fix" in said["evaluation-1"][0] else "arm"] == "none"


def test_a_chart_needs_no_script_of_its_own(comparison):
    page = render(build_content(comparison))
    assert len(page) < 300_000
    assert 'id="chart-0"' in page


def test_an_arm_without_an_interval_has_a_dot_alone():
    nan = float("nan")
    change = {"unit": "tokens", "higher_is_better": None, "significant": False}
    numbers = {"one": (2.0, 1.0, 3.0), "alone": (1.5, nan, nan), "unknown": (nan, nan, nan)}
    arms = [SimpleNamespace(label="none")]
    for name, (value, low, high) in numbers.items():
        found = SimpleNamespace(value=value, low=low, high=high, **change)
        arms.append(SimpleNamespace(label=name, differences={"length": found}))
    chart = difference_chart(SimpleNamespace(arms=arms), "length")
    assert (chart.title, chart.axis) == ("length: difference", "tokens")
    assert round_ticks(chart) == [0.0, 0.8, 1.6, 2.4, 3.2]
    shown = ShownComparison("task", "finding", Table("evaluation-1", "title", "", (), ()), (), 0, chart)
    page = render(Content("title", comparisons=(shown,)))
    drawing = page[page.index('id="chart-0"') : page.index("</figure>", page.index('id="chart-0"'))]
    assert drawing.count("<circle") == 2
    assert drawing.count("<line x1") == 1
    assert all(f">{name}</text>" in drawing for name in numbers)


@pytest.mark.parametrize(("value", "ticks"), [(0.0, [0.0, 1.0]), (-0.3, [-0.32, -0.24, -0.16, -0.08, 0.0])])
def test_zero_is_on_the_axis(value, ticks):
    assert round_ticks(intervals.Panel("", "", [intervals.Interval("fix", value, value, value)])) == ticks


def test_two_traces_are_before_and_after():
    before, after = sink_trace(), sink_trace(seed=7)
    content = build_content([before, after])
    metric = next(metric for metric in content.metrics if metric.key == "entropy")
    new = hw.analyses.entropy(after).frame.groupby(["layer", "head"])["normalised_entropy"].mean()
    assert metric.panels[0].after[1][1] == pytest.approx(new[1, 1])
    assert metric.panels[0].cells[1][1] != pytest.approx(new[1, 1])
    changes = [
        abs(b - a)
        for old, late in zip(metric.panels[0].cells, metric.panels[0].after, strict=True)
        for a, b in zip(old, late, strict=True)
    ]
    assert max(changes) <= metric.spread <= 2 * max(changes)


def test_three_traces_are_refused():
    with pytest.raises(hw.InputError, match="one trace, or two"):
        sort_inputs([sink_trace()] * 3)


def test_a_fix_needs_a_subject(tmp_path):
    with pytest.raises(hw.InputError, match="Only a subject can be run"):
        hw.report(sink_trace(), tmp_path / "r.html", fixes="VHR")
    assert list(tmp_path.iterdir()) == []


def test_the_spec_on_the_page_patches_the_model(tmp_path):
    subject = small_subject()
    page = hw.report(subject, tmp_path / "r.html", examples=[{"text": TEXT}], fixes=SILENT)
    text = page.read_text(encoding="utf-8")
    said = json.loads(re.search(r'id="headwise-facts">(.*?)</script>', text, re.DOTALL)[1])
    spec = tmp_path / "copied.json"
    spec.write_text(json.dumps(said["spec"]))
    assert hw.load_spec(spec).fixes == (SILENT,)


def edges(*rows):
    frame = pd.DataFrame(rows, columns=["sender", "receiver", "weight"])
    return made("circuit", "edges", frame, ("sender", "receiver"), "weight", unit="logit difference")


def test_a_circuit_is_a_graph_in_layers():
    graph = graph_of(edges(("input", "L0H1", 0.5), ("L0H1", "L2H3", -0.9), ("L2H3", "logits", 1.0)))
    assert {name: layer for name, layer, _ in graph.nodes} == {"input": -1, "L0H1": 0, "L2H3": 2, "logits": 3}
    found, height = places(graph)
    order = sorted(found, key=lambda name: found[name][1])
    assert order == ["logits", "L2H3", "L0H1", "input"]
    assert max(y for _, y in found.values()) < height
    assert layer_of("embedding") is None
    page = render(build_content(edges(("input", "<b>0.1</b>", 0.5))))
    assert "<b>" not in page
    assert "&lt;b&gt;0.1" in page


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


def again(answer, out, other):
    """The command of a report makes it once more."""
    words = shlex.split(answer["command"].replace(out.name, str(other)))
    assert run(*words[1:]).exit_code == 0
    assert other.exists()


def test_the_command_shows_a_fix(model, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(model).parent)
    out = tmp_path / "r.html"
    fix = "ZERO_HEADS:heads=[[0,0]]"
    done = run("report", model, "--text", TEXT, "--fix", fix, "--out", out, "--json")
    answer = json.loads(done.stdout)
    assert answer["fix"] == fix
    assert answer["spec"]["fixes"][0]["fix"] == "zero_heads"
    assert "--fix 'ZERO_HEADS:heads=[[0,0]]'" in answer["command"]
    again(answer, out, tmp_path / "again.html")


@pytest.mark.slow
def test_the_command_compares_on_a_task(tmp_path):
    out = tmp_path / "r.html"
    arguments = ("report", "zoo:lm", "--fix", "ZERO_HEADS:heads=[[0,0]]", "--task", "recall", "-n", 8)
    answer = json.loads(run(*arguments, "--out", out, "--json").stdout)
    assert answer["verdict"][0].startswith("recall, n = 8")
    assert "--task recall -n 8" in answer["command"]
    again(answer, out, tmp_path / "again.html")
    assert {row["arm"] for row in answer["evaluation-1"]} == {"none", "ZERO_HEADS:heads=[[0,0]]"}
    assert facts  # the answer of --json is what the page holds


def test_a_planted_fault_is_loaded_by_its_name():
    faulty = hw.load("zoo:lm+text-sink")
    assert faulty.name == "zoo:lm+text-sink"
    with pytest.raises(hw.InputError, match="belongs to zoo:vlm"):
        hw.load("zoo:lm+visual-sink")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-n", "5"), "-n belongs to a task"),
        (("--set", "a=b"), "--set belongs to a task"),
        (("--task", "recall"), "no fix to score"),
        (("--task", "recal", "--fix", "VAR"), "recall"),
        (("--fix", "VARR"), "close: var"),
        (("--fix", "VAR", "--fix", "VHR"), "only be compared on a task"),
        (("--samples", "2"), "Only tasks and models of the zoo"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_loading(tmp_path, options, said):
    done = run("report", "nowhere", "--text", TEXT, "--out", tmp_path / "r.html", *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_large_report_is_a_folder(model, tmp_path):
    done = run("report", model, "--text", TEXT, "--out", tmp_path / "r.html", "--max-size", "0.01")
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path / 'r' / 'index.html'} and " in done.stdout
    assert re.search(r"files beside it, \d\.\d MB", done.stdout)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r"]
    again = run("report", model, "--text", "a cat", "--out", tmp_path / "r.html", "--max-size", "0.01")
    assert again.exit_code == 0, again.output
    (tmp_path / "r" / MARK).unlink()
    refused = run("report", model, "--text", "a cat", "--out", tmp_path / "r.html", "--max-size", "0.01")
    assert refused.exit_code == 2
    assert "not written by headwise" in refused.stderr
    assert (tmp_path / "r" / "index.html").is_file()


def test_the_head_that_the_fix_changes_most_is_named():
    first = (("0", "1"), ((0.2, 0.5), (0.9, None)))
    panel = MapPanel("text · self", *first, group="text", after=((0.2, 0.3), (0.8, None)))
    metric = HeadMap("strongest_key", "Strongest key", "share", "", (panel,))
    headline = change_of((metric,), "VAR")
    assert headline.value == "50 % → 30 %"
    assert headline.links == (("L0H1", "head-text-00-01"),)
    same = HeadMap("strongest_key", "S", "share", "", (replace(panel, after=panel.cells),))
    assert change_of((same,), "VAR") is None
    assert change_of((), "VAR") is None


def test_the_call_of_a_report_on_a_subject_says_what_was_run(tmp_path):
    page = hw.report(
        small_subject(),
        tmp_path / "r.html",
        examples=[{"text": TEXT}],
        generate=2,
        fixes="ZERO_HEADS:heads=[[0,0]]",
    )
    said = page.read_text(encoding="utf-8")
    assert "generate=2, fixes=" in said
    assert "map_limit" not in said.split('id="text-call"')[1].split("</code>")[0]
