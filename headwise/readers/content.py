"""The bytes of a file that was named: a regular file, no larger than allowed."""

from __future__ import annotations

import gc
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from headwise.errors import InputError
from headwise.files import check_path
from headwise.readers.limits import require_within
from headwise.text import visible


@contextmanager
def opened(path: str | os.PathLike[str], *, limit: int, what: str = "the file") -> Iterator[BufferedReader]:
    """A regular file, opened for reading.

    Args:
        path: the file.
        limit: the largest size in bytes.
        what: what it should be, with its article, for messages.

    Raises:
        InputError: there is no such file, it is no regular file (a folder, a device, a pipe), it cannot be read, or it
            is larger than `limit`.
    """
    check_path(path, what)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {shown(path)}.", remedy="Check the path.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown(path)} cannot be read.", evidence=reason) from error
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "no regular file"
        raise InputError(f"{shown(path)} is {kind}.", remedy="Give the path of a file.")
    with os.fdopen(descriptor, "rb") as file:
        require_within(about.st_size, limit, "bytes", where=shown(path))
        yield file


def read_bytes(path: str | os.PathLike[str], *, limit: int, what: str = "the file") -> bytes:
    """The content of a regular file.

    Raises:
        InputError: as `opened`, or the file grows beyond `limit` while it is read.
    """
    with opened(path, limit=limit, what=what) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise InputError(
                f"{shown(path)} cannot be read.", evidence=error.strerror or str(error)
            ) from error
    require_within(len(data), limit, "bytes", where=shown(path))
    return data


def shown(path: str | os.PathLike[str]) -> str:
    """A path as messages write it."""
    return visible(os.fspath(path), limit=200)


def inside(name: str, folder: Path, *, where: str) -> Path:
    r"""The file that a data file names, within its folder; it need not exist.

    Args:
        name: a relative path, as it stands in the data file.
        folder: the folder that it must not leave.
        where: the file and line that name it, for messages.

    Raises:
        InputError: the name is absolute (on any system), begins with `~`, is a URL, leads out of the folder (`..`, a
            symbolic link), or is malformed.

    Example:
        >>> inside("a/1.png", Path("pictures"), where="q.jsonl, line 1").as_posix()
        'pictures/a/1.png'
        >>> inside("C:/1.png", Path("pictures"), where="q.jsonl, line 1")
        Traceback (most recent call last):
        ...
        headwise.errors.InputError: C:/1.png is no path inside pictures. (q.jsonl, line 1) Data name files relat...
    """
    if len(name) > _LONGEST or _FOREIGN.search(name):
        raise InputError(f"{shown(name)} is no path inside {shown(folder)}.", evidence=where, remedy=_INSIDE)
    try:
        leaves = _leaves(name, folder)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{shown(name)} cannot be looked up.", evidence=where, remedy=_INSIDE) from error
    if leaves:
        raise InputError(f"{shown(name)} leads out of {shown(folder)}.", evidence=where, remedy=_INSIDE)
    return folder / name


def _leaves(name: str, folder: Path) -> bool:
    """Whether a relative path leads out of a folder; what has neither `..` nor links in it is not resolved."""
    place, links = os.fspath(folder), False
    for part in name.replace(os.sep, "/").split("/"):
        place = f"{place}/{part}"
        links = links or part == ".." or os.path.islink(place)
    if not links:
        return False
    return not (folder / name).resolve().is_relative_to(folder.resolve())


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection in the block: of hundreds of thousands of records none is garbage, and looking takes longer
    than reading them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_FOREIGN = re.compile(r"\A(?:\s*\Z|[/\\~]|.:)|\0|://")
"""What no relative path has: nothing in it, a root or home or drive at its beginning, a NUL, a scheme."""
_LONGEST = 4096
"""Characters that a path may have on usual systems."""
_INSIDE = (
    "Data name files relative to their own folder; name another folder in the call if they lie elsewhere."
)
