"""The Python of docs/compare.md runs, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "compare.md"


def test_the_code_about_comparisons_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "compare.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "compare.html",
        "compare.parquet",
        "table.html",
    ]
