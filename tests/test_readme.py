"""The Python of the README and the docs runs, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
    assert (tmp_path / "run.safetensors").exists()
    assert (tmp_path / "pope.parquet").exists()
    assert (tmp_path / "compare.parquet").exists()


def test_the_code_about_tasks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (README.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "tasks.md", "exec"), names)


def test_the_code_about_fixes_runs() -> None:
    page = (README.parent / "docs" / "fixes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "fixes.md", "exec"), names)


def test_every_fix_is_in_the_docs() -> None:
    import headwise as hw

    page = (README.parent / "docs" / "fixes.md").read_text(encoding="utf-8")
    assert [name for name in hw.fixes.names() if f"`{hw.fixes.get(name).__name__}`" not in page] == []


def test_every_task_is_in_the_docs() -> None:
    from headwise.evaluation import task_names

    page = (README.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert [name for name in task_names() if f"`{name}`" not in page] == []
