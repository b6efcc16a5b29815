"""lm-evaluation-harness: task files, and everything that one line says instead of a traceback."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

import headwise as hw
from headwise.errors import HeadwiseError, InputError
from headwise.evaluation.harness import harness
from headwise.evaluation.harness.guard import set_aside, translate_errors
from headwise.evaluation.harness.tasks import load_tasks, read_tasks
from tests.kit.cli import assert_one_line, run
from tests.kit.comparisons import small_subject
from tests.kit.subjects import language, llava, word_tokenizer
from tests.kit.task_files import CHOICE, GROUP, LAST, READ, ROW

TASKS = Path(__file__).parent / "tasks"
GOOD = yaml.safe_load((TASKS / "choice.yaml").read_text())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that `datasets` writes stay in the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def subject() -> hw.Subject:
    return language(word_tokenizer(side="left"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a task file and its data."""
    place = tmp_path / "tasks"
    place.mkdir()
    shutil.copy(TASKS / "choice.jsonl", place)
    shutil.copy(TASKS / "choice.yaml", place)
    return place


def change(folder: Path, **fields: object) -> Path:
    """The task file with other fields; None takes one out."""
    config = {key: value for key, value in {**GOOD, **fields}.items() if value is not None}
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def refused(subject: hw.Subject, tasks: object, said: str, **call: object) -> None:
    """One line, and nothing has changed."""
    inputs = subject.prepare(text="a cat sat")
    with torch.no_grad():
        before = subject.model(**inputs).logits
    with pytest.raises(HeadwiseError) as caught:
        harness(subject, tasks, **{"limit": 2, **call})
    text = str(caught.value)
    assert said in text
    assert "\n" not in text
    assert text.endswith((".", ")"))
    with torch.no_grad():
        assert torch.equal(subject.model(**inputs).logits, before)
    assert subject.tokenizer.padding_side == "left"
    assert logging.getLogger("lm_eval").handlers == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: [", "is not YAML"),
        ("task: a\n\ttab: b", "line 2"),
        ("- a\n- b", "cannot be read"),
        ("", "cannot be read"),
        ("dataset_path: json", "names no task"),
        ("task: [a, b]", "names no task"),
        ("include: none.yaml\ntask: a", "none.yaml"),
        ("task: a\ndoc_to_text: !function nowhere.function", "nowhere"),
        ("task: a\x00", "is not YAML"),
    ],
)
def test_a_malformed_task_file(subject: hw.Subject, folder: Path, text: str, said: str) -> None:
    (folder / "bad.yaml").write_text(text)
    refused(subject, folder / "bad.yaml", said)
    if "names no task" not in said:  # such a file may be one that others include
        refused(subject, folder, said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "There is no data file gone.jsonl"),
        ({"surprise": 1}, "surprise"),
        ({"output_type": "interpretive_dance"}, "interpretive_dance"),
        ({"test_split": "exam"}, "exam"),
        ({"doc_to_text": "{{prompt"}, "TemplateSyntaxError"),
        ({"dataset_path": None}, "could not be loaded"),
        ({"doc_to_choice": "{{missing}}"}, "could not be loaded"),
    ],
)
def test_a_task_file_that_does_not_make_sense(
    subject: hw.Subject, folder: Path, fields: dict[str, object], said: str
) -> None:
    refused(subject, change(folder, **fields), said)


@pytest.mark.parametrize("content", ["", '{"prompt": "a"', "no json", '{"prompt": 1}\n{"prompt": [2]}'])
def test_malformed_data(subject: hw.Subject, folder: Path, content: str) -> None:
    (folder / "choice.jsonl").write_text(content)
    refused(subject, folder / "choice.yaml", "zoo_choice")


def test_an_example_that_cannot_be_asked(subject: hw.Subject, folder: Path) -> None:
    """The third document has no candidates; the first two are asked without trouble."""
    rows = [
        json.dumps({"prompt": "a cat", "candidates": [" sat", " on"][:n], "answer": 0}) for n in (2, 2, 0)
    ]
    (folder / "choice.jsonl").write_text("\n".join(rows))
    assert harness(subject, folder / "choice.yaml", limit=2).metrics["n"].tolist() == [2]
    refused(subject, folder / "choice.yaml", "harness stopped", limit=None)
    rows[2] = json.dumps({"prompt": "a cat", "candidates": [" sat", ""], "answer": 0})
    (folder / "choice.jsonl").write_text("\n".join(rows))
    refused(subject, folder / "choice.yaml", "no tokens", limit=None)


def test_paths_and_calls_that_lead_nowhere(subject: hw.Subject, folder: Path) -> None:
    refused(subject, "gone.yaml", "There is no task file gone.yaml")
    refused(subject, folder / "sub" / "none", "There is no task file")
    refused(subject, [], "no task")
    refused(subject, [folder / "choice.yaml"] * 2, "Two task files are about 'zoo_choice'")
    (folder / "empty").mkdir()
    refused(subject, folder / "empty", "no task file in the folder")
    refused(subject, folder / "choice.yaml", "limit=0", limit=0)
    refused(subject, folder / "choice.yaml", "batch_size=0", batch_size=0)
    refused(subject, folder / "choice.yaml", "layer 7", fixes=[hw.fixes.ZeroHeads(heads=[(7, 0)])])
    refused(subject, folder / "choice.yaml", "no fix", fixes=[])
    refused(subject, folder / "choice.yaml", "harness stopped", apply_chat_template=True)


@pytest.mark.parametrize("allow_code", [False, True])
def test_data_lie_beside_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_code: bool
) -> None:
    """As code, data may also lie in the current folder or anywhere."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def asked(path: str | Path) -> str:
        with set_aside() as warned:
            tasks = load_tasks(read_tasks([path], allow_code=allow_code), logged=warned)["tasks"]
        assert not warned
        return next(iter(tasks.values())).eval_docs[0]["prompt"]

    row = {"prompt": "here", "candidates": ["a", "b"], "answer": 0}
    (here / "choice.jsonl").write_text(json.dumps(row))
    assert asked(folder / "choice.yaml").startswith("Which one")
    assert asked("../tasks/choice.yaml").startswith("Which one")
    (folder / "deep").mkdir()
    (folder / "deep" / "one.jsonl").write_text(json.dumps({**row, "prompt": "deep"}))
    assert asked(change(folder, dataset_kwargs={"data_files": {"test": ["deep/*.jsonl"]}})) == "deep"
    (folder / "choice.jsonl").unlink()
    elsewhere = change(folder, dataset_kwargs={"data_files": {"test": str(here / "choice.jsonl")}})
    for path, said in ((folder / "choice.yaml", "no data file choice.jsonl"), (elsewhere, "no path inside")):
        if allow_code:
            assert asked(path) == "here"
        else:
            with pytest.raises(InputError, match=said):
                asked(path)


def test_models_that_do_not_continue_texts() -> None:
    task = TASKS / "choice.yaml"
    encoder = BertModel(BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    for model, said in (
        (llava(), "LlavaForConditionalGeneration"),
        (hw.load("zoo:nmt"), "M2M100ForConditionalGeneration"),
        (hw.wrap(encoder.eval(), word_tokenizer()), "BertModel"),
        (language(), "no tokenizer"),
    ):
        with pytest.raises(InputError, match=said):
            harness(model, task)


@pytest.mark.parametrize("package", ["lm_eval", "accelerate"])
def test_without_the_extra(
    subject: hw.Subject, monkeypatch: pytest.MonkeyPatch, folder: Path, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}, which is not installed.*'headwise\[harness\]'"):
        harness(subject, folder / "choice.yaml")


def logs(lines: list[str]) -> None:
    """Fails after the harness has logged why."""
    with translate_errors("It fell.", remedy="Get up.", logged=lines):
        lines.append("no such metric")
        raise KeyError(None)


def test_the_first_cause_is_told_and_memory_errors_pass() -> None:
    later = ValueError("later")
    later.__cause__ = KeyError("why")
    for error, said in (
        (later, r"It fell\. \(KeyError: 'why'\) Get up\."),
        (AssertionError(), r"It fell\. \(AssertionError\) Get up\."),
    ):
        with pytest.raises(InputError, match=said), translate_errors("It fell.", remedy="Get up."):
            raise error
    logged = ["before"]
    with pytest.raises(InputError, match=r"\(KeyError: None; no such metric\)") as caught:
        logs(logged)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(torch.OutOfMemoryError), translate_errors("It fell.", remedy="Get up."):
        raise torch.OutOfMemoryError("too much")


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=3), max_size=2)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=60)
    | st.dictionaries(
        st.sampled_from(
            ["output_type", "test_split", "doc_to_text", "doc_to_target", "metric_list", "tag", "metadata"]
        ),
        VALUES,
        min_size=1,
        max_size=3,
    ).map(lambda changed: yaml.safe_dump({**GOOD, **changed}))
)
def test_whatever_a_task_file_says_it_loads_or_is_refused(folder: Path, text: str) -> None:
    path = folder / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with set_aside(), suppress(InputError):
        load_tasks(read_tasks([path]), logged=[])


@pytest.mark.slow  # the harness reads thousands of its own task files: about six seconds
def test_names_of_the_harness_itself(subject: hw.Subject) -> None:
    refused(subject, "helaswag", "there are: hellaswag")
    refused(subject, "hellaswag", "could not be loaded")  # there is no network in tests


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    fix = "scale_heads:heads=[[1,0],[2,0]],factor=0.2"
    found = run(
        "harness", "zoo:lm", "--task", TASKS / "choice.yaml", "--fix", fix, "--limit", 5, "--out", out
    )
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].startswith("lm-evaluation-harness ")
    assert len(lines) == 4
    assert fix in lines[2]
    assert len(json.loads(out.read_text())["examples"]) == 10
    answer = json.loads(
        run("harness", "zoo:lm", "--task", TASKS / "choice.yaml", "--limit", 2, "--json").stdout
    )
    assert [row["metric"] for row in answer["metrics"]] == ["acc"]
    assert answer["differences"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zoo:lm", "--task", "gone.yaml"), "gone.yaml"),
        (("zoo:vlm", "--task", TASKS / "choice.yaml"), "LlavaForConditionalGeneration"),
        (("zoo:lm", "--task", TASKS / "choice.yaml", "--out", "found.txt"), ".txt"),
        (("zoo:lm", "--task", TASKS / "choice.yaml", "--fix", "no_such_fix"), "no_such_fix"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: tuple[object, ...], said: str) -> None:
    found = run("harness", *arguments)
    assert found.exit_code == 2
    assert_one_line(found.stdout, found.stderr, said)


@pytest.mark.parametrize("task", [CHOICE, READ, LAST], ids=lambda task: task["output_type"])
def test_a_metric_that_never_comes_is_told_and_none_at_all_is_an_error(tmp_path, task):
    odd = "exact_match" if task is not CHOICE else "perplexity"
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    path = tmp_path / "t.yaml"

    def asked(*metrics):
        path.write_text(json.dumps({**task, "metric_list": [*metrics, {"metric": odd}]}), encoding="utf-8")
        return harness(small_subject(), path)

    with pytest.warns(UserWarning, match=f"asks for {odd}, which the harness does not give") as told:
        found = asked(*task["metric_list"])
    assert str(told[0].message) in found.manifest["warnings"]
    assert set(found.metrics["metric"]) == {item["metric"] for item in task["metric_list"]}
    with pytest.raises(InputError, match=f"no metric that '{task['task']}' asks for.*{odd}"):
        asked()


def test_a_group_is_told_of_a_metric_that_none_of_its_tasks_gives(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    sums = [*GROUP["aggregate_metric_list"], {"metric": "f1", "aggregation": "mean"}]
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps({**GROUP, "aggregate_metric_list": sums}), encoding="utf-8")
    with pytest.warns(UserWarning, match="'both' asks for f1"):
        assert set(harness(small_subject(), path).metrics["task"]) == {"both", "both::one", "both::two"}


def test_a_group_whose_tasks_stand_in_its_file_needs_no_index_of_the_harness(tmp_path, monkeypatch):
    from lm_eval.tasks import manager

    asked = []

    class Recorded(manager.TaskManager):
        def __init__(self, **options: Any) -> None:
            asked.append(options)
            super().__init__(**options)

    monkeypatch.setattr(manager, "TaskManager", Recorded)
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps(GROUP), encoding="utf-8")
    with set_aside() as logged:
        assert list(load_tasks(read_tasks(path), logged=logged)["tasks"]) == ["both::one", "both::two"]
    assert asked == [{"include_defaults": False}]
