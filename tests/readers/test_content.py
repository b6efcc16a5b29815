"""Files that data name: within their folder, or refused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.readers.content import inside

OUTSIDE = (
    *(
        "",
        " ",
        "/etc/passwd",
        "//host/share/a.png",
        "..",
        "../a.png",
        "sub/../../a.png",
        "./../pictures2/a.png",
    ),
    *(
        "http://host/a.png",
        "file:///etc/passwd",
        "s3://bucket/a.png",
        "a.png\0.txt",
        "~/a.png",
        "~root/a.png",
    ),
    *(
        "C:/a.png",
        "C:a.png",
        "\\a.png",
        "c:\\a.png",
        "\\\\host\\share\\a.png",
        "\\\\?\\C:\\a.png",
        "/dev/stdin",
    ),
    *("link.png", "folder/a.png", "a" * 5000, "a/" * 5_000_000),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "pictures"
    (found / "sub").mkdir(parents=True)
    (tmp_path / "pictures2").mkdir()
    for place in (found, found / "sub", tmp_path / "pictures2", tmp_path):
        (place / "a.png").touch()
    (found / "link.png").symlink_to(tmp_path / "a.png")
    (found / "folder").symlink_to(tmp_path / "pictures2")
    (found / "loop.png").symlink_to(found / "loop.png")
    (found / "own.png").symlink_to(Path("sub") / "a.png")
    (found / "back\\slash.png").touch()
    return found


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave_their_folder(folder: Path, name: str) -> None:
    with pytest.raises(InputError) as error:
        inside(name, folder, where="q.jsonl, line 3")
    assert error.value.evidence == "q.jsonl, line 3"
    assert len(str(error.value)) < 1000
    assert "\0" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["a.png", "sub/a.png", "./a.png", "sub/../a.png", "own.png", "back\\slash.png", "..a.png", "a~b"]
)
@pytest.mark.parametrize("relative", [False, True])
def test_names_within_their_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, name: str
) -> None:
    monkeypatch.chdir(folder)
    place = Path() if relative else folder
    assert inside(name, place, where="q") == place / name


def test_a_folder_that_the_user_names_may_be_a_link(folder: Path) -> None:
    (folder.parent / "mine").symlink_to(folder)
    assert inside("a.png", folder.parent / "mine", where="q").is_file()


@given(name=st.text(st.sampled_from("./\\~:ab \0\u202e")))
def test_any_name_stays_inside_or_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp()
    with contextlib.suppress(InputError):
        found = inside(name, root, where="q")
        assert os.path.commonpath([root, os.path.realpath(found)]) == str(root)
