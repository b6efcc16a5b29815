"""Writing files and folders whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from stat import S_IMODE, S_ISDIR, S_ISREG

from headwise.errors import InputError

try:
    import fcntl
except (
    ImportError
):  # Windows: leftovers of killed saves stay, since nothing tells whether somebody still writes
    fcntl = None

LEFTOVER = re.compile(r"\.headwise-[0-9a-f]{12}-[0-9a-f]{8}\.part")
"""Names of files and folders that are being written."""
NAME_BYTES = 255
"""The longest name of a file that usual file systems take."""
_LINKS = 40
"""Links in a row that Linux follows."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary path beside `path`; when the block ends well, the file there takes the name
    `path`.

    If the block raises, nothing is left and a file that was there before is untouched. What a killed process left of
    an earlier save to this name is removed. The new file has the permissions of the one it replaces. A symbolic link
    stays: the file that it leads to is replaced, or made.

    Raises:
        InputError: the folder does not exist, `path` is a folder, a pipe or a device, a link of somebody else, or no
            name of a file, or it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "note.txt") as part:
        ...         _ = part.write_text("whole")
        ...     print((Path(folder) / "note.txt").read_text())
        whole
    """
    target = _destination(Path(path))
    if target.is_dir():
        raise InputError("The path to write to is a folder.", evidence=str(target), remedy="Add a file name.")
    there = os.lstat(target).st_mode if os.path.lexists(target) else None
    if there is not None and not S_ISREG(there):
        raise InputError(
            "What stands under the name to write is no file.",
            evidence=str(target),
            remedy="Choose another name.",
        )
    with errors_of_writing(target, "file"), _temporary(target, folder=False) as part:
        yield part
        if there is not None:
            part.chmod(S_IMODE(there))
        os.replace(part, target)


@contextmanager
def filling(path: str | Path | None) -> Iterator[Path | None]:
    """Hand out a temporary folder beside `path`, which takes its name when the block ends well; None for None.

    If the block raises, nothing is left behind. Links are followed as by `replacing`.

    Raises:
        InputError: the folder around `path` does not exist, `path` is a file, a folder with something in it or a link
            of somebody else, or it cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with filling(f"{place}/new") as part:
        ...         _ = (part / "note.txt").write_text("whole")
        ...     print((Path(place) / "new" / "note.txt").read_text())
        whole
    """
    if path is None:
        yield None
        return
    target = _destination(Path(path))
    check_new_folder(target)
    with errors_of_writing(target, "folder"), _temporary(target, folder=True) as part:
        yield part
        if target.is_dir():
            target.rmdir()  # it is empty
        os.replace(part, target)


def check_name(target: Path) -> None:
    """Refuse a path that no file can be written to, before any work is done for it.

    Raises:
        InputError: the name is too long or holds characters that no file system takes, the folder does not exist, or it
            is a link of somebody else, or one that leads nowhere.
    """
    _destination(target)


def _destination(target: Path) -> Path:
    """Where a name leads, through links that the user made; what others made may lead to what the user has."""
    for _ in range(_LINKS):
        _check_one(target)
        if not target.is_symlink():
            return target
        leads = os.readlink(target)
        if hasattr(os, "geteuid") and os.lstat(target).st_uid != os.geteuid():
            raise InputError(
                "The name to write is a link of somebody else.",
                evidence=f"{target}, which leads to {leads}",
                remedy="Choose another name, or write to where it leads.",
            )
        target = target.parent / leads
    raise InputError(
        "The name to write is a link that leads nowhere.", evidence=str(target), remedy="Choose another name."
    )


def _check_one(target: Path) -> None:
    try:
        name = os.fsencode(target)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise InputError(
            "This is no name of a file.", evidence=repr(str(target))[:200], remedy="Choose another."
        )
    if len(os.fsencode(target.name)) > NAME_BYTES:
        raise InputError(
            f"The name of the file has more than {NAME_BYTES} bytes.",
            evidence=f"{target.name[:60]}…",
            remedy="Choose a shorter one.",
        )
    if not os.path.isdir(target.parent):  # Path.is_dir raises where a name in it is too long
        raise InputError(
            "The folder to write into does not exist.",
            evidence=str(target.parent)[:200],
            remedy="Create it first.",
        )


@contextmanager
def errors_of_writing(target: Path, what: str) -> Iterator[None]:
    """Turns what the system refuses in the block into an InputError; `what` is "file" or "folder"."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The {what} could not be written.",
            evidence=f"{target}: {error.strerror or error}",
            remedy="Check permissions and free space.",
        ) from error


@contextmanager
def _temporary(target: Path, *, folder: bool) -> Iterator[Path]:
    """A file or folder beside `target`, locked while the block runs and removed behind it if it is still there."""
    import hashlib  # the start of every command waits for this module, and writes nothing yet

    key = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    clear_leftovers(target.parent.glob(f".headwise-{key}-*.part"))
    with ExitStack() as held:
        part = _new(target.with_name(f".headwise-{key}-"), folder=folder, held=held)
        held.callback(_remove, part)
        yield part


def clear_leftovers(paths: Iterable[Path]) -> None:
    """Remove temporary files and folders of saves that were killed; one that another save holds stays."""
    for path in paths:
        with suppress(OSError):
            mode = os.lstat(path).st_mode
            if S_ISREG(mode) or S_ISDIR(mode):  # opening a pipe would wait for its other end
                with locked(path, wait=False):
                    _remove(path)


def _new(start: Path, *, folder: bool, held: ExitStack) -> Path:
    """A file or folder whose name begins so, locked until `held` ends."""
    import secrets

    while True:
        part = Path(f"{start}{secrets.token_hex(4)}.part")
        if folder:
            part.mkdir()
        else:
            part.touch(exist_ok=False)
        with suppress(FileNotFoundError):  # another save took it for a leftover before it was locked
            held.enter_context(locked(part))
            part.stat()
            return part


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a file or folder; without `wait`, an OSError when another process (or thread) does, or none can."""
    if fcntl is None:
        if wait:
            yield
            return
        raise OSError("no locks on this system")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_path(path: str | os.PathLike[str], what: str) -> None:
    """Refuse an empty path, which stands for the folder one is in.

    Raises:
        InputError: it is empty; `what`, with its article, is named.

    Example:
        >>> check_path("", "the spec")
        Traceback (most recent call last):
        ...
        headwise.errors.InputError: The path of the spec is empty. Give the path of a file.
    """
    if not os.fspath(path).strip():
        raise InputError(f"The path of {what} is empty.", remedy="Give the path of a file.")


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix of a file name in small letters: `X.PARQUET` is a file as `x.parquet` is.

    Example:
        >>> suffix_of("RUN.Parquet")
        '.parquet'
    """
    return Path(path).suffix.lower()


def file_name(path: str | os.PathLike[str]) -> str:
    """A path as files name it: a relative one as it is, of another its last part, not where it lies on a disk.

    Example:
        >>> file_name("/home/somebody/q.jsonl"), file_name("../somebody/q.jsonl"), file_name("data/q.jsonl")
        ('q.jsonl', 'q.jsonl', 'data/q.jsonl')
    """
    text = os.fspath(path)
    pure = PureWindowsPath(text) if "\\" in text or text[1:2] == ":" else PurePosixPath(text)
    if not (pure.is_absolute() or pure.drive or ".." in pure.parts or text.startswith("~")):
        return text
    return pure.name if pure.name != ".." and not pure.name.startswith("~") else "here"


def check_suffix(path: Path, suffixes: Sequence[str], *, what: str) -> None:
    """Refuse a file name whose suffix names no format that `what` can be written in.

    Raises:
        InputError: on another suffix; those that are known are listed.

    Example:
        >>> check_suffix(Path("numbers.csv"), (".json", ".csv"), what="a result")
    """
    if suffix_of(path) not in suffixes:
        raise InputError(
            f"{what.capitalize()} cannot be written as {path.suffix or 'a file without suffix'}.",
            evidence=str(path),
            remedy=f"Use {', '.join(suffixes)}.",
        )


def check_new_folder(target: Path) -> None:
    """Refuse a folder that could not be written, before any work is done for it.

    Raises:
        InputError: the folder around it does not exist, or it is a file or has something in it.
    """
    check_name(target)
    if target.exists() and not target.is_dir():
        raise InputError("The folder to write is a file.", evidence=str(target), remedy="Choose another.")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            "The folder to write has something in it.", evidence=str(target), remedy="Choose a new one."
        )
