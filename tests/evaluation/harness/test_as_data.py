"""A task file is data: nothing that it says runs code, opens another file, fetches anything or takes for ever."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import yaml
from lm_eval import utils
from pyarrow import parquet

from headwise.errors import InputError
from headwise.evaluation.harness import harness
from headwise.evaluation.harness.fields import check_fields
from headwise.evaluation.harness.guard import set_aside
from headwise.evaluation.harness.tasks import load_tasks, read_tasks
from headwise.readers.limits import file_limits
from headwise.readers.yaml import parse_yaml
from tests.kit.cli import run
from tests.kit.hooks import watch
from tests.kit.subjects import language, word_tokenizer

TASKS = Path(__file__).parent / "tasks"
GOOD = yaml.safe_load((TASKS / "choice.yaml").read_text())
RUN = "{{ cycler.__init__.__globals__.os.system('touch ran') }}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task file, its data, and what an attack would like to reach."""
    place = tmp_path / "tasks"
    place.mkdir()
    shutil.copy(TASKS / "choice.jsonl", place)
    shutil.copy(TASKS / "choice.jsonl", tmp_path / "secret.jsonl")
    (place / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (place / "out").symlink_to(tmp_path)
    (place / "utils.py").write_text("open('ran', 'w').close()\ndef f(doc): return 'x'\n")
    (tmp_path / "above.yaml").write_text("description: none\n")
    monkeypatch.chdir(place)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return place


def write(folder: Path, fields: dict[str, Any] | str, name: str = "t.yaml") -> Path:
    path = folder / name
    if isinstance(fields, dict):
        config = {key: value for key, value in {**GOOD, **fields}.items() if value != "none"}
        fields = yaml.safe_dump(config)
    path.write_text(fields)
    return path


def files(*names: str) -> dict[str, Any]:
    return {"dataset_kwargs": {"data_files": {"test": list(names)}}}


def metric(**fields: Any) -> dict[str, Any]:
    return {"metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True, **fields}]}


def step(**fields: Any) -> dict[str, Any]:
    return {"filter_list": [{"name": "x", "filter": [{"function": "regex", **fields}]}]}


BOMB = "metadata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
FIELDS = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
ATTACKS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "function": ("task: t\ndoc_to_text: !function utils.f", "line 2"),
    "function of an installed module": ("task: t\nprocess_docs: !function os.system", "!function os.system"),
    "function in a list": ("task: t\nmetric_list:\n  - metric: !function utils.f", "line 3"),
    "Python's tag": ("task: t\nmetadata: !!python/object/apply:os.system [touch ran]", "line 2"),
    "Python's name": ("task: t\nmetadata: !!python/name:os.system", "python/name"),
    "aliases": (f"task: t\n{BOMB}", "values: 1,234,56"),
    "depth": (f"task: t\nmetadata: {'[' * 99}{']' * 99}", "deep"),
    "an alias of itself": ("task: t\nmetadata: &a {b: *a}", "itself"),
    **{f"code in {name}": ({name: RUN}, ".__init__") for name in FIELDS},
    "code in solved examples": ({"fewshot_config": {"doc_to_text": RUN}}, ".__init__"),
    "code for decontamination": ({"doc_to_decontamination_query": RUN}, ".__init__"),
    "a global": ({"doc_to_text": "{{ lipsum(10) }}"}, "lipsum"),
    "attr": ({"doc_to_text": "{{ prompt|attr('upper') }}"}, "'attr'"),
    "map with a filter": ({"doc_to_text": "{{ candidates|map('center', 10) }}"}, "'map'"),
    "format": ({"doc_to_text": "{{ '{0.x}'.format(prompt) }}"}, "'format'"),
    "a product": ({"doc_to_text": "{{ prompt * 999999999 }}"}, "Mul"),
    "a power": ({"doc_to_text": "{{ 9 ** 9 ** 9 }}"}, "Pow"),
    "padding": ({"doc_to_text": "{{ '%999999999d' % 1 }}"}, "Mod"),
    "a macro": ({"doc_to_text": "{% macro a() %}{{ a() }}{% endmacro %}"}, "Macro"),
    "an include in a template": ({"doc_to_text": "{% include '/etc/passwd' %}"}, "Include"),
    "a slow pattern in a template": ({"doc_to_text": "{{ prompt|regex_replace('(a+)+$', '') }}"}, "regex_replace"),
    "doubling": ({"doc_to_text": "{% set a = prompt %}" + "{% set a = a + a %}" * 40}, "a variable made of"),
    "lists of lists": ({"doc_to_text": "{% set a = [prompt, prompt] %}"}, "a list written out"),
    "a long template": ({"doc_to_text": "x" * 20_001}, "20,001 characters"),
    "a deep template": ({"doc_to_text": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"}, "RecursionError"),
    "an include above": ("task: t\ninclude: ../above.yaml", "leads out"),
    "an absolute include": ("task: t\ninclude: /etc/passwd", "no path inside"),
    "an include by a link": ("task: t\ninclude: out/above.yaml", "leads out"),
    "an include of itself": ("task: t\ninclude: [t.yaml]", "twice"),
    "an include from the network": ("task: t\ninclude: https://example.org/a.yaml", "no path inside"),
    "an include that is none": ("task: t\ninclude: [{a: 1}]", "no name of a file"),
    "a hub name": ({"dataset_path": "squad", "dataset_kwargs": None}, "not 'squad'"),
    "a script": ({"dataset_path": "./utils.py"}, "not './utils.py'"),
    "Arrow": ({"dataset_path": "arrow"}, "not 'arrow'"),
    "a folder of data": ({"dataset_kwargs": {"data_dir": "/"}}, "data_dir"),
    "a configuration of the hub": ({"dataset_name": "en"}, "dataset_name"),
    "remote code": ({"dataset_kwargs": {"data_files": "choice.jsonl", "trust_remote_code": True}}, "trust_remote"),
    "another cache": ({"dataset_kwargs": {"data_files": "choice.jsonl", "cache_dir": "/tmp"}}, "cache_dir"),
    "data above": (files("../secret.jsonl"), "leads out"),
    "data above, wound": (files("x/../../secret.jsonl"), "leads out"),
    "absolute data": (files("/etc/passwd"), "no path inside"),
    "data by a link": (files("link.jsonl"), "leads out"),
    "data by a link of a folder": (files("out/secret.jsonl"), "leads out"),
    "data by a linked pattern": (files("lin*.jsonl"), "leads out"),
    "data by a pattern through a link": (files("o?t/*.jsonl"), "leads out"),
    "data by a pattern above": (files("../*.jsonl"), "leads out"),
    "data everywhere": (files("**/no-such-*.x"), "everywhere"),
    "all of the disk": (files("/**/no-such-*.x"), "no path inside"),
    "data from the network": (files("https://example.org/a.jsonl"), "no path inside"),
    "data from the hub": (files("hf://datasets/a/b.jsonl"), "no path inside"),
    "data in an archive": (files("zip://a.jsonl::b.zip"), "no path inside"),
    "no name": (files(""), "no data file"),
    "a long name": (files("x" * 5000), "xxx"),
    "a folder": (files("."), "no data file"),
    "a device": (files("/dev/zero"), "no path inside"),
    "a metric of evaluate": (metric(hf_evaluate=True), "hf_evaluate"),
    "a metric beside": (metric(metric="./m"), "no such metric"),
    "a metric of the hub": (metric(metric="bertscore"), "no such metric"),
    "another sum": (metric(aggregation="os.system"), "no such aggregation"),
    "a slow pattern of a metric": (metric(regexes_to_ignore=["(a+)+$"]), "for ever"),
    "a slow pattern": (step(regex_pattern="(a|a)*$"), "for ever"),
    "a filter of one's own": (step(function="custom", filter_fn="os.system"), "custom"),
    "custom_dataset": ({"custom_dataset": "os.system"}, "custom_dataset"),
    "class": ({"class": "os.system"}, "class"),
    "process_docs": ({"process_docs": "utils.f"}, "process_docs"),
    "process_results": ({"process_results": "utils.f"}, "process_results"),
    "pictures": ({"doc_to_image": RUN}, "doc_to_image"),
    "unsafe_code": ({"unsafe_code": True}, "unsafe_code"),
    "a prompt from a file": ({"use_prompt": "../above.yaml:x"}, "use_prompt"),
    "a prompt of a package": ({"use_prompt": "promptsource:x"}, "use_prompt"),
    "a sampler": ({"fewshot_config": {"sampler": "os.system"}}, "sampler"),
    "solved examples by code": ({"fewshot_config": {"process_docs": "utils.f"}}, "process_docs"),
    "generation by code": ({"generation_kwargs": {"custom_generate": "a/b"}}, "custom_generate"),
    "endless answers": ({"generation_kwargs": {"max_gen_toks": 10**9}}, "max_gen_toks"),
    "endless beams": ({"generation_kwargs": {"num_beams": 10**6}}, "num_beams"),
    "endless repeats": ({"repeats": 10**9}, "repeats"),
    "endless examples": ({"num_fewshot": 10**9}, "num_fewshot"),
    "an unknown field": ({"plugin": "a"}, "plugin"),
    "a group with an installed task": ({"group": "g", "task": ["hellaswag"]}, "no file about"),
    "a group with code": ({"group": "g", "task": [{"task": "x", "process_docs": "utils.f"}]}, "process_docs"),
    "a group with data above": (
        {"group": "g", "task": [{**GOOD, "task": "x", **files("../secret.jsonl")}], "dataset_path": "none"}
        | {"dataset_kwargs": "none"},
        "leads out",
    ),
}  # fmt: skip


def refused(path: Path, said: str) -> None:
    read_tasks([path.parent / "warm.yaml"])  # what is imported on the way is there now
    with watch() as seen, pytest.raises(InputError) as caught:
        read_tasks([path])
    text = str(caught.value)
    assert said in text
    assert "\n" not in text
    opened = {Path(what).resolve() for event, what in seen if event == "open"}
    assert opened <= {file.resolve() for file in path.parent.glob("*.yaml")}
    assert [event for event, _ in seen if event != "open"] == []
    assert not Path("ran").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_more_than_data_is_refused_before_anything_is_opened(folder: Path, attack: str) -> None:
    fields, said = ATTACKS[attack]
    write(folder, {"task": "warm"}, "warm.yaml")
    path = write(folder, fields)
    refused(path, said)


@pytest.mark.parametrize("attack", ["code in doc_to_text", "process_docs", "a metric beside", "aliases"])
def test_what_is_included_is_data_too(folder: Path, attack: str) -> None:
    fields, said = ATTACKS[attack]
    write(folder, fields, "base.yaml")
    with pytest.raises(InputError, match=r"base\.yaml") as caught:
        read_tasks([write(folder, "include: base.yaml\ntask: other")])
    assert said in str(caught.value)
    assert not Path("ran").exists()


def test_links_and_folders(folder: Path) -> None:
    """A folder may be named by a link; links in it lead nowhere. Includes stay within the folder that was named."""
    (folder.parent / "named").symlink_to(folder)
    (folder / "below").mkdir()
    write(folder, "include: ../choice_base.yaml\ntask: low\n", "below/t.yaml")
    write(folder, {**files("choice.jsonl"), "task": "none"}, "choice_base.yaml")
    shutil.copy(folder / "choice.jsonl", folder / "below")
    for root in (folder, folder.parent / "named"):
        assert read_tasks([root]).names == ["low"]
    with pytest.raises(InputError, match="leads out"):
        read_tasks([folder / "below"])
    (folder / "link.yaml").symlink_to(folder.parent / "above.yaml")
    with pytest.raises(InputError, match="leads out"):
        read_tasks([folder])
    group = write(
        folder, {"group": "g", "task": ["low"], "dataset_path": "none", "dataset_kwargs": "none"}, "g.yaml"
    )
    assert set(read_tasks([group]).files) == {"g", "low"}


@pytest.mark.parametrize(
    ("main", "others", "said"),
    [
        (
            {"task": "x", "include": "0.yaml"},
            {f"{n}.yaml": f"include: {n + 1}.yaml" for n in range(250)},
            "include one another",
        ),
        ({"group": "g", "task": [f"t{n}" for n in range(300)]}, {}, "tasks and groups: 301"),
        (
            {"task": "x", "include": "0.yaml"},
            {"0.yaml": "# a\n" * 200_000, "1.yaml": ""},
            "bytes of task files",
        ),
        (
            {"group": "g", "task": ["a"]},
            {"0.yaml": "group: a\ntask: [b]", "1.yaml": "#" * 2**20 + "\ntask: b"},
            "larger than headwise reads",
        ),
    ],
)
def test_many_files_are_bounded_as_one_is(
    folder: Path, main: dict[str, Any], others: dict[str, str], said: str
) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for name, text in others.items():
        (folder / name).write_text(text)
    (folder / "t.yaml").write_text(yaml.safe_dump(main) + "# a\n" * 100_000)
    with pytest.raises(InputError, match=said):
        read_tasks([folder / "t.yaml"])


def test_the_line_is_named(folder: Path) -> None:
    path = write(
        folder, "task: t\ndataset_path: json\nmetric_list:\n  - metric: acc\n    hf_evaluate: true\n"
    )
    with pytest.raises(
        InputError, match=r"t\.yaml, line 5: metric_list\.0\.hf_evaluate: .*not True.*allow_code"
    ):
        read_tasks([path])


def rows(path: Path) -> list[dict[str, Any]]:
    with set_aside() as logged:
        task = next(iter(load_tasks(read_tasks([path]), logged=logged)["tasks"].values()))
    assert logged == []
    return list(task.eval_docs)


def test_every_kind_of_data_and_no_network(folder: Path) -> None:
    expected = [{"q": "ä, b", "n": 1}, {"q": "c", "n": None}]
    (folder / "a.jsonl").write_text('{"q": "ä, b", "n": 1}\n\n{"q": "c"}\n')
    (folder / "a.json").write_text('[{"q": "ä, b", "n": 1}, {"q": "c"}]')
    (folder / "a.csv").write_text('q,n\n"ä, b",1\nc,\n')
    (folder / "a.tsv").write_text("ä, b\t1\nc\t\n")
    parquet.write_table(pa.Table.from_pylist(expected), folder / "a.parquet")
    asked = {"doc_to_text": "{{ q }}", "doc_to_choice": ["a", "b"], "doc_to_target": 0}
    tab = {"delimiter": "\t", "column_names": ["q", "n"]}
    rows(write(folder, {}))  # what is imported on the way is there now
    for name, kind, options in (
        ("a.jsonl", "json", {}),
        ("a.json", "json", {}),
        ("a.csv", "csv", {}),
        ("a.tsv", "csv", tab),
        ("a.parquet", "parquet", {}),
    ):
        data = {"dataset_path": kind, "dataset_kwargs": {"data_files": {"test": name}, **options}}
        path = write(folder, {**asked, **data})
        with watch() as seen:
            assert rows(path) == expected
        inside = {Path(what).name for event, what in seen if str(folder.parent) in str(what)}
        assert inside == {"t.yaml", name}
    (folder / "a.txt").write_text("one\ntwo\n")
    text = {"dataset_path": "text", "dataset_kwargs": {"data_files": "a.txt"}, "test_split": "train"}
    path = write(folder, {**asked, **text, "doc_to_text": "{{ text }}"})
    assert rows(path) == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize(("name", "kind", "content", "said"), [
    ("a.csv", "csv", b"a,b\n" + b"," * 20_000, "columns"),
    ("a.csv", "csv", b"a\n1,2\n1,2,3\n", r"2 values, and the table 1 columns.*line 2"),
    ("a.csv", "csv", b"q,a\nWhich 0?,cat,dog\n", r"3 values, and the table 2 columns.*line 2"),
    ("a.csv", "csv", b"q,a\nb,c\nWhich\n", r"1 values, and the table 2 columns.*line 3"),
    ("a.csv", "csv", b'q,a\n"' + b"x" * 200_000 + b'",c\n', "no table"),
    ("a.csv", "csv", (b"," * 9000 + b"\n") * 600, "cells"),
    ("a.jsonl", "json", b"{" + b",".join(b'"%d":1' % i for i in range(10_001)) + b"}", "columns"),
    ("a.jsonl", "json", b"".join(b'{"%d":1}\n' % i for i in range(3000)), "cells"),
    ("a.jsonl", "json", b"".join(b'{"a":{"%d":1}}\n' % i for i in range(3000)), "cells"),
    ("a.parquet", "parquet", b"PAR1xxxxxxxx", "Parquet"),
    ("a.json", "json", b"[1]", "objects"),
    ("a.jsonl", "json", b'{"a": NaN}', "NaN"),
    ("a.txt", "text", b"a\0b", "NUL"),
    ("a.txt", "text", b"\xff\xfea", "UTF-16"),
])  # fmt: skip
def test_data_that_are_refused(folder: Path, name: str, kind: str, content: bytes, said: str) -> None:
    (folder / name).write_bytes(content)
    path = write(folder, {"dataset_path": kind, **files(name)})
    with pytest.raises(InputError, match=said):
        rows(path)


def test_data_beyond_the_limits(folder: Path) -> None:
    with file_limits(times=1e-6), pytest.raises(InputError, match="file_limits"):
        rows(write(folder, {}))


def test_code_runs_where_it_is_allowed_and_is_said(folder: Path) -> None:
    subject = language(word_tokenizer(side="left"))
    write(
        folder,
        yaml.safe_dump({key: value for key, value in GOOD.items() if key != "doc_to_text"}),
        "base.yaml",
    )
    path = write(folder, "include: base.yaml\ntask: t\ndoc_to_text: !function utils.f\n")
    with pytest.raises(InputError, match="allow_code"):
        harness(subject, path, limit=2)
    assert not Path("ran").exists()
    with pytest.warns(UserWarning, match="as code"):
        found = harness(subject, path, limit=2, allow_code=True)
    assert Path("ran").exists()
    assert set(found.frame["prompt"]) == {"x"}
    assert "as code" in found.manifest["warnings"][0]
    assert found.manifest["allow_code"]
    plain = harness(subject, write(folder, {}), limit=2)
    assert plain.manifest["warnings"] == []
    assert "custom_dataset" not in plain.manifest["tasks"]["zoo_choice"]
    with pytest.warns(UserWarning, match="as code"), pytest.raises(InputError, match=r"SecurityError|unsafe"):
        harness(subject, write(folder, {"doc_to_text": RUN}), limit=2, allow_code=True)
    with (
        pytest.warns(UserWarning, match="as code"),
        pytest.raises(InputError, match=r"metric './m' of the task .* cannot be had"),
    ):
        harness(subject, write(folder, metric(metric="./m", hf_evaluate=True)), limit=2, allow_code=True)
    for name in [name for name in sys.modules if name.startswith(str(folder))]:
        del sys.modules[name]


def test_the_command_says_so(folder: Path) -> None:
    path = write(folder, "task: t\ndoc_to_text: !function utils.f\n")
    found = run("harness", "no/such/model", "--task", path)
    assert (found.exit_code, found.stdout) == (2, "")  # before a model is opened
    assert "!function utils.f" in found.stderr
    assert "--allow-code" in found.stderr
    path = write(folder, {})
    found = run("harness", "zoo:lm", "--task", path, "--limit", 2, "--allow-code")
    assert found.exit_code == 0
    assert "as code" in found.stderr


@pytest.mark.slow  # thousands of files
def test_task_files_of_the_harness_that_name_no_function_are_data() -> None:
    """But for where their data lie, which is the hub. Those that are not name Python in another way, or are broken."""
    outcomes = []
    for file in (Path(utils.__file__).parent / "tasks").rglob("*.y*ml"):
        if "!function" in (text := file.read_text(encoding="utf-8")):
            continue
        try:
            config, lines = parse_yaml(text.encode(), where=file.name)
            bare = {key: value for key, value in config.items() if key != "include" and "dataset_" not in key}
            check_fields(bare, lines, file.name)
            outcomes.append(True)
        except InputError:
            outcomes.append(False)
    assert len(outcomes) > 7000
    assert sum(outcomes) / len(outcomes) > 0.99
