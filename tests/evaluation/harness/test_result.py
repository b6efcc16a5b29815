"""What lm-evaluation-harness gives back, as tables and files, and the page about it."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

import headwise as hw
from headwise.evaluation.harness import harness
from headwise.evaluation.harness.result import HarnessResult
from headwise.evaluation.harness.table import difference_rows, example_rows

TASKS = Path(__file__).parent / "tasks"
CHOICE, READ = TASKS / "choice.yaml", TASKS / "read.yaml"
WEAK = hw.fixes.ScaleHeads(heads=[(layer, head) for layer in (1, 2, 3) for head in (0, 1)], factor=0.2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that `datasets` writes stay in the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_it_is_saved_whole(tmp_path: Path) -> None:
    found = harness(hw.load("zoo:lm"), [CHOICE, READ], fixes={"<b>weak": WEAK}, limit=6)
    for name in ("a.json", "a.parquet", "a.csv"):
        found.save(tmp_path / name)
    stored = json.loads((tmp_path / "a.json").read_text())
    assert len(stored["examples"]) == 24
    assert stored["metrics"][0]["value"] == found.metrics["value"][0]
    assert stored["manifest"]["versions"]["lm_eval"]
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert table.attrs["metrics"] == stored["metrics"]
    assert table.attrs["manifest"]["tasks"]["zoo_choice"]["output_type"] == "multiple_choice"
    assert json.loads(table["log_probabilities"][0]) == found.frame["log_probabilities"][0]
    for name in ("a.json", "a.parquet"):
        back = hw.load_harness(tmp_path / name)
        for part in ("metrics", "differences", "frame"):
            pd.testing.assert_frame_equal(getattr(back, part), getattr(found, part), check_exact=True)
        assert (back.manifest, back.lines()) == (stored["manifest"], found.lines())
    assert "zoo_choice: acc none" in repr(found)
    assert "<b>" not in found._repr_html_()
    assert len(found.plot().data) == 2
    assert found.to_frame().equals(found.metrics)
    assert sum("p " in line for line in found.lines()[1:]) == 3


def test_rows_by_hand() -> None:
    """Two examples whose scores the harness gives in three forms."""
    samples = [
        {
            "filter": "none",
            "doc_id": place,
            "target": 1,
            "arguments": [("Q", " a"), ("Q", " b"), ("", " a"), ("", " b")],
            "filtered_resps": [(-3.0, False), (-0.5, True), (-1.0, False), (-1.0, False)],
            "metrics": ["acc", "ppl", "f1", "brier"],
            "acc": 1.0,
            "ppl": (-4.0, 2),
            "f1": (1, np.int64(0)),
            "brier": "text",
        }
        for place in range(2)
    ]
    rows = example_rows("none", {"samples": {"t": samples}})
    assert rows[0] == {
        "arm": "none",
        "task": "t",
        "filter": "none",
        "id": "0",
        "prompt": "Q",
        "answer": " b",
        "response": " b",
        "candidates": [" a", " b"],
        "log_probabilities": [-3.0, -0.5],
        "acc": 1.0,
        "ppl_sum": -4.0,
        "ppl_weight": 2.0,
        "f1_json": "[1, 0]",
        "brier_json": '"text"',
    }
    examples = pd.DataFrame(rows + [{**row, "arm": "fix", "ppl_sum": -8.0} for row in rows])
    metrics = pd.DataFrame(
        [
            {
                "arm": arm,
                "task": "t",
                "metric": name,
                "filter": "none",
                "value": value,
                "higher_is_better": False,
            }
            for arm, ppl in (("none", np.exp(2.0)), ("fix", np.exp(4.0)))
            for name, value in (("acc", 1.0), ("ppl", ppl), ("f1", 0.3))
        ]
    )
    found = difference_rows(
        metrics, examples, {"t": {"acc": "mean", "ppl": "weighted_perplexity", "f1": "f1"}}, seed=0
    )
    assert [(row["metric"], row["value"]) for row in found] == [
        ("acc", 0.0),
        ("ppl", pytest.approx(np.exp(4.0) - np.exp(2.0))),
    ]


def test_names_show_no_markup_and_nothing_invisible() -> None:
    name = '<a href="https://example.org">click</a>\u202e\n'
    row = {"arm": name, "task": name, "metric": name, "filter": name, "value": 0.5, "stderr": 0.1, "n": 3}
    found = HarnessResult(pd.DataFrame([row]), pd.DataFrame(), pd.DataFrame(), {})
    dots = found.plot().data[0]
    for text in (dots.name, *dots.y[0], *dots.y[1], found._repr_html_()):
        assert "click" in text
        assert "<a" not in text
        assert "\u202e" not in text
    assert repr(found).isprintable()
