import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
import typer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SUBJECTS = ("quickstart", "sinks", "hallucination", "speech", "translation", "circuits", "serving")
LONGEST_CELL = 25
LARGEST_OUTPUT = 200_000
SECONDS = 300

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def command_lines(cell):
    """What follows `headwise` in the lines of a cell."""
    joined = cell.source.replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in joined.splitlines() if line.startswith("headwise ")]


def refusal(words):
    """What the command line has against these words; empty when it would run."""
    from headwise.cli.app import app

    group = typer.main.get_command(app)
    try:
        name, command, rest = group.resolve_command(group.make_context("headwise", list(words)), list(words))
        while hasattr(command, "commands"):
            name, command, rest = command.resolve_command(command.make_context(name, list(rest)), list(rest))
        command.make_context(name, list(rest))
    except Exception as error:  # whatever typer's own copy of click calls it
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(scope="module")
def stripped():
    spec = spec_from_file_location("strip", FOLDER / "strip.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.stripped


def test_the_seven_are_there():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(1, 8)]
    for path, subject in zip(NOTEBOOKS, SUBJECTS, strict=True):
        assert subject in path.stem


@every_notebook
def test_stored_bare(path, stripped):
    nbformat.validate(read(path))
    text = path.read_text(encoding="utf-8")
    assert text == stripped(text), f"python notebooks/strip.py {path.name}"
    for cell in code(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_strip_takes_off_what_running_leaves(stripped):
    ran = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "mine", "display_name": "/home/me/env"}},
        cells=[
            nbformat.v4.new_code_cell(
                "1 + 1\n\n",
                execution_count=7,
                metadata={"execution": {"iopub.execute_input": "now"}},
                outputs=[nbformat.v4.new_output("stream", text="2")],
            ),
            nbformat.v4.new_markdown_cell("two"),
        ],
    )
    bare = nbformat.reads(stripped(nbformat.writes(ran)), as_version=4)
    nbformat.validate(bare)
    first, second = bare.cells
    assert (first.source, first.outputs, first.execution_count, first.metadata) == ("1 + 1", [], None, {})
    assert (first.id, second.id, second.source) == ("cell-01", "cell-02", "two")
    assert "mine" not in nbformat.writes(bare)


@every_notebook
def test_begins_with_a_question_and_ends_with_commands(path):
    cells = read(path).cells
    assert cells[0].cell_type == "markdown"
    assert re.search(r"\*\*Question: [^*]+\?[^*]*\*\*", cells[0].source)
    assert cells[-1].cell_type == "markdown"
    commands = command_lines(cells[-1])
    assert commands
    for words in commands:
        assert refusal(words) == "", shlex.join(words)


def test_refusal_knows_wrong_commands():
    assert refusal(["compare", "zoo:lm", "--task", "recall", "--fix", "ACT"]) == ""
    assert refusal(["compare", "zoo:lm", "--task", "recall", "--fx", "ACT"])
    assert refusal(["compared", "zoo:lm"])
    assert refusal(["zoo", "card", "lm"]) == ""


@every_notebook
def test_cells_are_short_parse_and_name_no_place(path):
    for cell in read(path).cells:
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.id
        assert not re.search(r"(?<![\w.:/~<>{}])/(home|root|tmp|usr|work|Users|var|mnt)/", cell.source), (
            cell.id
        )
        assert not re.search(r"renderers\.default|https?://", cell.source), cell.id
        if cell.cell_type == "code":
            ast.parse(cell.source)


def execute(path, folder):
    """The notebook after it ran in `folder`, with this Python, without network and with warnings shown."""
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    home = folder / "data" / "kernels" / "python3"
    home.mkdir(parents=True)
    (home / "kernel.json").write_text(
        json.dumps({**kernel, "display_name": "Python 3", "language": "python"})
    )
    copied = shutil.copy(path, folder)
    nowhere = "http://127.0.0.1:9"  # a request fails at once
    settings = {
        **os.environ,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_DATA_DIR": str(folder / "data"),  # kernels of the user are not looked at
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
    }
    run = "from nbclient.cli import main; main()"
    arguments = [f"--timeout={SECONDS}", "--kernel_name=python3", "--inplace", copied]
    done = subprocess.run(
        [sys.executable, "-c", run, *arguments], env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return read(copied)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
@every_notebook
def test_runs(path, tmp_path):
    start = time.perf_counter()
    notebook = execute(path, tmp_path)
    assert time.perf_counter() - start < SECONDS
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for number, widget in widgets.get("state", {}).items():
        # the viewer's script is of the package; what is counted is the data of the cell
        data = {name: value for name, value in widget["state"].items() if name not in ("_esm", "_css")}
        assert len(json.dumps(data)) + len(json.dumps(widget.get("buffers", []))) <= LARGEST_OUTPUT, number
    for cell in code(notebook):
        assert cell.execution_count, cell.id
        for output in cell.outputs:
            stored = json.dumps(output)
            assert len(stored) <= LARGEST_OUTPUT, (cell.id, len(stored))
            assert not re.search(r"""(src|href)=[\\"']*(https?:)?//""", stored), cell.id
            assert str(ROOT) not in stored, (cell.id, stored[:500])
            assert output.get("name") != "stderr", (cell.id, output.text)
    if "HEADWISE_EXECUTED" in os.environ:  # the site shows it without running it again
        kept = Path(os.environ["HEADWISE_EXECUTED"])
        kept.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept / path.name)
