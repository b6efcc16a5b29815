"""Folders that headwise wrote and may write again: known by a mark, never by their looks."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from headwise.errors import InputError
from headwise.files import (
    LEFTOVER,
    check_name,
    check_new_folder,
    clear_leftovers,
    errors_of_writing,
    filling,
    locked,
    replacing,
)
from headwise.readers.content import read_bytes
from headwise.readers.json import parse_json

MARK = ".headwise.json"
"""The file that says what kind of folder it is, and which files headwise wrote there."""
_MARK_BYTES = 2**20


def replace_folder(target: Path, files: Mapping[str, str], *, kind: str, entry: str) -> None:
    """Write a folder of texts; one of the same kind that holds nothing else is brought up to date.

    At every moment the folder is whole: new files come under new names, `entry`, which names them, is exchanged by
    one rename, and files that it no longer names go last.

    Args:
        target: the folder.
        files: texts by path within it; all but `entry` have names that tell their content (a digest).
        kind: what the mark says, as "report".
        entry: the file that readers open.

    Raises:
        InputError: the folder holds something that headwise did not write, or it cannot be written.
    """
    if not target.is_dir() or not any(target.iterdir()):
        try:
            with filling(target) as part:
                assert part is not None
                for name, text in files.items():
                    _write(part / name, text)
                _write(part / MARK, _mark(kind, files))
            return
        except InputError:
            if not (target / MARK).is_file():  # else another process has written one meanwhile
                raise
    with errors_of_writing(target, "folder"), locked(target):
        _update(target, files, kind=kind, entry=entry)


def _update(target: Path, files: Mapping[str, str], *, kind: str, entry: str) -> None:
    old = _files_of(target, kind)
    clear_leftovers(path for path in _walk(target) if LEFTOVER.fullmatch(path.name))
    _replace(target / MARK, _mark(kind, old | set(files)))
    for name in (*sorted(set(files) - {entry}), entry):
        _replace(target / name, files[name])
    stale = old - set(files)
    for name in stale:
        (target / name).unlink(missing_ok=True)
    for folder in {(target / name).parent for name in stale} - {target}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    _replace(target / MARK, _mark(kind, files))


def check_folder(target: Path, *, kind: str) -> None:
    """Refuse a folder that `replace_folder` would refuse.

    Raises:
        InputError: it is a file, or holds something that headwise did not write.
    """
    check_name(target)
    if not target.is_dir() or not any(target.iterdir()):
        check_new_folder(target)
        return
    _files_of(target, kind)


def _files_of(target: Path, kind: str) -> set[str]:
    """The files that the mark of a folder names; they are all that is in it, and no link is among them."""
    there = {
        path.relative_to(target).as_posix() for path in _walk(target) if not LEFTOVER.fullmatch(path.name)
    }
    marked = read_bytes(target / MARK, limit=_MARK_BYTES) if MARK in there else b"null"
    mark = parse_json(marked, where=str(target / MARK))
    names = mark.get("files") if isinstance(mark, dict) and mark.get("kind") == kind else None
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_inside(name) for name in names):
        raise InputError(
            f"The folder was not written by headwise as a {kind}.",
            evidence=str(target),
            remedy="Choose another name.",
        )
    strange = {name for name in there if not S_ISREG(os.lstat(target / name).st_mode)}
    foreign = sorted((there - set(names) - {MARK}) | strange)
    if foreign:
        raise InputError(
            "The folder holds something that headwise did not write.",
            evidence=f"{target}: {', '.join(foreign[:3])}",
            remedy="Move it elsewhere, or choose another name.",
        )
    return set(names)


def _walk(folder: Path) -> list[Path]:
    """Everything below a folder but folders; links are among it, and not followed."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [Path(place) / name for name in (*names, *links)]
    return found


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _mark(kind: str, files: Collection[str]) -> str:
    return json.dumps({"written by": "headwise", "kind": kind, "files": sorted(files)}, indent=1)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
