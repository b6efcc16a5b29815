"""Whatever writes a file or a folder writes through a symbolic link: it stays, and what it leads to is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import headwise as hw
from headwise.fixes.baking import bake
from headwise.reports.page.index import write_index
from headwise.results.store import SUFFIXES
from tests.kit.comparisons import small_subject
from tests.kit.results import every_kind
from tests.kit.stored import STORED, evaluation, trace

FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{name: (kind.suffix, kind.write) for name, kind in STORED.items() if "result of" not in name},
    **{f"result {suffix}": (suffix, every_kind()["rows"].save) for suffix in SUFFIXES},
    "evaluation .csv": (".csv", lambda path: evaluation().save(path)),
    "figure": (".html", lambda path: evaluation().save(path)),
    "report": (".html", lambda path: hw.report(trace(), path)),
    "index of reports": (".html", lambda path: write_index([], path, title="all")),
}


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing yet"])
@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str, there: bool) -> None:
    suffix, write = FILES[name]
    (tmp_path / "store").mkdir()
    kept, link = tmp_path / "store" / f"kept{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(Path("store", kept.name))
    if there:
        kept.write_text("old")
        kept.chmod(0o640)
    write(link)
    assert link.is_symlink()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert kept.stat().st_size > 10
    assert not there or kept.stat().st_mode & 0o777 == 0o640


FOLDERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "report": (
        "index.html",
        lambda path: hw.report(every_kind()["heads"], path.with_suffix(".html"), limit=1),
    ),
    "baked": (
        "config.json",
        lambda path: bake(small_subject(), (hw.fixes.ZeroHeads(heads=((0, 0),)),), path),
    ),
}


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "nothing yet"])
@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path: Path, name: str, there: bool) -> None:
    entry, write = FOLDERS[name]
    kept, link = tmp_path / "kept", tmp_path / "link"
    link.symlink_to("kept")
    if there:
        kept.mkdir()
    write(link)
    assert link.is_symlink()
    assert (kept / entry).is_file()
