"""Folders that headwise wrote and may write again: known by a mark, never by their looks."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
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
from headwise.readers.content import opened, read_bytes
from headwise.readers.json import parse_json

MARK = ".headwise.json"
"""The file that says what kind of folder it is, and which files headwise wrote there, with what in them."""
_MARK_BYTES = 2**24


def replace_folder(target: Path, files: Mapping[str, str], *, kind: str, entry: str) -> None:
    """Write a folder of texts; one of the same kind that holds nothing else is brought up to date.

    A file that is not what headwise wrote under its name counts as something else: its digest stands in the mark.
    At every moment the folder is whole: new files come under new names, `entry`, which names them, is exchanged by
    one rename, and files that it no longer names go last.

    Args:
        target: the folder.
        files: texts by path within it; all but `entry` have names that tell their content (a digest).
        kind: what the mark says, as "report".
        entry: the file that readers open.

    Raises:
        InputError: the folder holds something that headwise did not write, or that was changed since, or it cannot be
            written.
    """
    data = {name: text.encode() for name, text in files.items()}
    new = {name: [hashlib.sha256(content).hexdigest()] for name, content in data.items()}
    if not target.is_dir() or not any(target.iterdir()):
        try:
            with filling(target) as part:
                assert part is not None
                for name, content in (data | {MARK: _mark(kind, new)}).items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).write_bytes(content)
            return
        except InputError:
            if not (target / MARK).is_file():  # else another process has written one meanwhile
                raise
    with errors_of_writing(target, "folder"), locked(target):
        old = _files_of(target, kind)
        clear_leftovers(path for path in _walk(target) if LEFTOVER.fullmatch(path.name))
        both = {name: [*old.get(name, []), *new.get(name, [])] for name in {**old, **new}}
        _replace(target / MARK, _mark(kind, both))
        for name in (*sorted(set(data) - {entry}), entry):
            _replace(target / name, data[name])
        stale = old.keys() - data
        for name in stale:
            (target / name).unlink(missing_ok=True)
        for folder in {(target / name).parent for name in stale} - {target}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        _replace(target / MARK, _mark(kind, new))


def check_folder(target: Path, *, kind: str) -> None:
    """Refuse a folder that `replace_folder` would refuse.

    Raises:
        InputError: it is a file, or holds something that headwise did not write, or that was changed since.
    """
    check_name(target)
    if not target.is_dir() or not any(target.iterdir()):
        check_new_folder(target)
        return
    with errors_of_writing(target, "folder"), locked(target):  # another process may be amid an update
        _files_of(target, kind)


def _files_of(target: Path, kind: str) -> dict[str, list[str]]:
    """The files that the mark of a folder names -> the digests that each may have, of which two are there amid an
    update; they are all that is in it, each is as headwise wrote it, and no link is among them.
    """
    marked = read_bytes(target / MARK, limit=_MARK_BYTES) if os.path.lexists(target / MARK) else b"null"
    mark = parse_json(marked, where=str(target / MARK))
    known = mark.get("files") if isinstance(mark, dict) and mark.get("kind") == kind else None
    if not isinstance(known, dict) or not all(
        _is_inside(name) and isinstance(digests, list) for name, digests in known.items()
    ):
        raise InputError(
            f"The folder was not written by headwise as a {kind}.",
            evidence=str(target),
            remedy="Choose another name.",
        )
    there = {
        path.relative_to(target).as_posix() for path in _walk(target) if not LEFTOVER.fullmatch(path.name)
    }
    strange = {name for name in there if not S_ISREG(os.lstat(target / name).st_mode)}
    foreign = sorted((there - known.keys() - {MARK}) | strange)
    if foreign:
        raise InputError(
            "The folder holds something that headwise did not write.",
            evidence=f"{target}: {', '.join(foreign[:3])}",
            remedy="Move it elsewhere, or choose another name.",
        )
    changed = sorted(name for name in there & known.keys() if _digest(target / name) not in known[name])
    if changed:
        raise InputError(
            "The folder holds a file that was changed after headwise wrote it.",
            evidence=f"{target}: {', '.join(changed[:3])}",
            remedy="Move it elsewhere, or choose another name.",
        )
    return known


def _digest(path: Path) -> str:
    with opened(path, limit=sys.maxsize) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(folder: Path) -> list[Path]:
    """Everything below a folder but folders; links are among it, and not followed."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [Path(place) / name for name in (*names, *links)]
    return found


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.as_posix() == name
        and bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and "\0" not in name
    )


def _mark(kind: str, files: Mapping[str, list[str]]) -> bytes:
    return json.dumps(
        {"written by": "headwise", "kind": kind, "files": files}, indent=1, sort_keys=True
    ).encode()


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(content)
