"""README and docs: every block of Python runs and prints what the page shows; every command exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

import headwise as hw
from headwise.cli.app import app
from headwise.evaluation import task_names
from headwise.figures.chart import KINDS
from headwise.layout.axes import ROLES
from headwise.probes.attach.sites import TOWERS, Site
from headwise.readers.limits import MIB, FileLimits
from tests.kit.pages import DOCS, PAGES, blocks, commands, differs, python_blocks, run
from tests.kit.traces import make_trace

SLOW = {
    "README.md",
    "compare.md",
    "faults.md",
    "fixes.md",
    "howto/add_analysis.md",
    "howto/add_fix.md",
    "howto/add_task.md",
    "howto/data.md",
    "howto/model.md",
    "index.md",
    "methods/act.md",
    "methods/activation_patching.md",
    "methods/circuit.md",
    "methods/class_sinks.md",
    "methods/complexity_correlation.md",
    "methods/decoding_sinks.md",
    "methods/entropy.md",
    "methods/faithfulness.md",
    "methods/fit.md",
    "methods/head_divergence.md",
    "methods/head_importance.md",
    "methods/head_kinds.md",
    "methods/head_types.md",
    "methods/importance_agreement.md",
    "methods/interaction.md",
    "methods/look_back.md",
    "methods/mass.md",
    "methods/pattern_clusters.md",
    "methods/pruning_curve.md",
    "methods/replace.md",
    "methods/reply_divergence.md",
    "methods/saliency.md",
    "methods/saliency_overlap.md",
    "methods/scale_heads.md",
    "methods/search.md",
    "methods/sink_rate.md",
    "methods/spectrogram_saliency.md",
    "methods/token_divergence.md",
    "methods/trace_divergence.md",
    "methods/var.md",
    "methods/vhr.md",
    "methods/visual_sinks.md",
    "reports.md",
    "serve.md",
    "tasks.md",
}
"""Pages whose Python takes more than a second."""
NOT_RUN: dict[str, str] = {}
"""Page -> why a block of it is marked `notest`."""
WRITES = {
    "README.md": {"report.html", "run.safetensors", "pope.parquet", "compare.parquet"},
    "compare.md": {"compare.html", "compare.parquet", "table.html"},
    "harness.md": {"animals.parquet"},
    "howto/add_analysis.md": {"peak.parquet", "peak.html"},
    "serve.md": {"winner.json", "baked"},
}
"""Page -> what its Python leaves behind, for its commands among others."""


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix() if page.is_relative_to(DOCS) else page.name


def marked(page: Path):
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (name_of(page) in SLOW))


def prepare(page: Path, folder: Path) -> None:
    """Write the files that a page shows, by their titles."""
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.body, encoding="utf-8")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [marked(page) for page in PAGES if python_blocks(page)])
def test_the_python_of_a_page_runs_and_prints_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(page, tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in python_blocks(page):
        printed = run(block, names)
        if block.expected is not None:
            assert differs(block.expected, printed) == "", f"{name_of(page)}, line {block.line}"
    assert WRITES.get(name_of(page), set()) <= {path.name for path in tmp_path.iterdir()}
    if name_of(page) in SLOW & {*WRITES}:
        run_commands(page, tmp_path)


def test_next_to_no_block_is_left_out() -> None:
    left_out = [name_of(block.page) for page in PAGES for block in blocks(page) if "notest" in block.options]
    print(f"{len(left_out)} blocks of Python are not run: {left_out}")
    assert left_out == list(NOT_RUN)


def test_every_command_of_the_docs_exists_with_its_options() -> None:
    root = typer.main.get_command(app)
    seen = 0
    for page in PAGES:
        for block, words, _ in commands(page):
            where = f"{name_of(page)}, line {block.line}: {' '.join(words)}"
            command, rest = root, words[1:]
            while (below := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
                assert rest[0] in below, where
                command, rest = below[rest[0]], rest[1:]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            used = [word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)]
            assert [option for option in used if option not in known] == [], where
            seen += 1
    assert seen > 20


def runs(words: list[str]) -> bool:
    """True for a command on the zoo that takes seconds, or is made to by asking less."""
    if words[1] == "zoo":
        return words[2] in ("list", "card", "path")
    return words[1] in ("--version", "tasks") or any(word.startswith("zoo:") for word in words)


def shortened(words: list[str]) -> list[str]:
    """The command over 20 examples."""
    if words[1] not in ("eval", "compare", "fit", "search"):
        return words
    at = words.index("-n") if "-n" in words else len(words)
    return [*words[:at], "-n", "20", *words[at + 2 :]]


def run_commands(page: Path, folder: Path) -> None:
    """Run the commands of a page in a folder with what its Python wrote."""
    if (folder / "baked").is_dir():  # a folder is never written over
        (folder / "baked").rename(folder / "baked by Python")
    for _, words, _ in commands(page):
        if runs(words):
            answer = CliRunner().invoke(app, shortened(words)[1:])
            assert answer.exit_code == 0, f"{' '.join(words)}: {answer.output}"
            assert answer.output.strip()


WITH_COMMANDS = [page for page in PAGES if any(runs(words) for _, words, _ in commands(page))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=name_of(page)) for page in WITH_COMMANDS if name_of(page) not in SLOW & {*WRITES}],
)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(page, tmp_path)
    if name_of(page) in WRITES:  # some commands read what the Python wrote
        names: dict[str, object] = {"__name__": "__main__"}
        for block in python_blocks(page):
            run(block, names)
    run_commands(page, tmp_path)


SHOWN = [(page, words, shown) for page in PAGES for _, words, shown in commands(page) if shown]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "shown"), [pytest.param(words, shown, id=" ".join(words[1:])) for _, words, shown in SHOWN]
)
def test_a_command_prints_what_the_page_shows(
    words: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, words[1:])
    assert answer.exit_code == 0
    assert differs(shown, answer.stdout) == ""


def test_every_fix_is_in_the_docs() -> None:
    page = (DOCS / "fixes.md").read_text(encoding="utf-8")
    assert [name for name in hw.fixes.names() if f"`{hw.fixes.get(name).__name__}`" not in page] == []


def test_every_task_is_in_the_docs() -> None:
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert [name for name in task_names() if f"`{name}`" not in page] == []


def test_every_analysis_has_a_page() -> None:
    own = [name for name in hw.analyses.names() if hw.analyses.get(name).__module__.startswith("headwise.")]
    assert [name for name in own if not (DOCS / "methods" / f"{name}.md").exists()] == []


def test_the_glossary_knows_the_words_of_tables() -> None:
    trace = make_trace({Site("text", "self", 0): torch.ones(1, 2, 3, 3).tril() / 3})
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    columns = {name for level in ("head", "query", "key") for name in trace.to_frame(level)}
    measured = {name for name in columns if not name.startswith("mass_")} - {"position", "token", "call"}
    said = set(re.findall(r"\w+", page))
    assert sorted({*measured, *TOWERS, *ROLES, *KINDS} - said) == []


def test_the_limits_on_files_are_those_of_the_readers() -> None:
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    limits = {field.name: field.default for field in fields(FileLimits)}
    shown = {
        name: f"{value // MIB:,} MiB" if "bytes" in name else f"{value:,}" for name, value in limits.items()
    }
    assert dict(re.findall(r"^\| `(\w+)` \| ([\d,]+(?: MiB)?) \|", page, re.M)) == shown


def test_every_public_name_is_in_the_reference_once() -> None:
    listed = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$|\{ #(headwise\S+) \}", page.read_text(encoding="utf-8"), re.M)
    ]
    names = [dotted.rpartition(".")[2] for pair in listed for dotted in pair if dotted]
    public = {*hw.__all__, *hw.analyses.__all__, *hw.fixes.__all__, *hw.evaluation.__all__, *hw.zoo.__all__}
    public |= {*hw.reports.__all__, *hw.testing.__all__}
    modules = {"analyses", "errors", "evaluation", "fixes", "reports", "testing", "zoo", "zoo_checks"}
    assert sorted(public - modules - set(names)) == []
    dotted = [name for pair in listed for name in pair if name]
    assert sorted(name for name in set(dotted) if dotted.count(name) > 1) == []


def test_what_a_page_shows_is_compared() -> None:
    assert differs("a 1.50\n...\nlast 3", "a 1.504\nx\ny\nlast 3\n") == ""
    assert differs("accuracy 0.50", "accuracy 0.60")
    assert differs("3 heads", "4 heads")
    assert differs("one", "one\ntwo")
    assert differs("one\ntwo", "one")
    assert differs("one ...", "two")
