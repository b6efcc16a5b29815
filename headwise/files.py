"""Writing files and folders whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwise.errors import InputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary path beside `path`; when the block ends well, the file there takes the name
    `path`.

    If the block raises, nothing is left and a file that was there before is untouched.

    Raises:
        InputError: when the folder does not exist, or `path` is a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "note.txt") as part:
        ...         _ = part.write_text("whole")
        ...     print((Path(folder) / "note.txt").read_text())
        whole
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(
            "The folder to write into does not exist.", evidence=str(target.parent), remedy="Create it first."
        )
    if target.is_dir():
        raise InputError("The path to write to is a folder.", evidence=str(target), remedy="Add a file name.")
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        raise InputError(
            "The file could not be written.",
            evidence=f"{target}: {error.strerror or error}",
            remedy="Check the folder's permissions and free space.",
        ) from error
    finally:
        part.unlink(missing_ok=True)


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


def check_suffix(path: Path, suffixes: Sequence[str], *, what: str) -> None:
    """Refuse a file name whose suffix names no format that `what` can be written in.

    Raises:
        InputError: on another suffix; those that are known are listed.

    Example:
        >>> check_suffix(Path("numbers.csv"), (".json", ".csv"), what="a result")
    """
    if path.suffix not in suffixes:
        raise InputError(
            f"{what.capitalize()} cannot be written as {path.suffix or 'a file without suffix'}.",
            evidence=str(path),
            remedy=f"Use {', '.join(suffixes)}.",
        )


@contextmanager
def filling(path: str | Path | None, *, replace: bool = False) -> Iterator[Path | None]:
    """Hand out a temporary folder beside `path`, which takes its name when the block ends well; None for None.

    If the block raises, nothing is left behind. With `replace`, a folder of this name is removed once the new one is
    complete.

    Raises:
        InputError: the folder around `path` does not exist, `path` is a file or a folder with something in it, or it
            cannot be written to.

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
    target = Path(path)
    if not replace:
        check_new_folder(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        yield part
        if replace and target.is_dir():
            shutil.rmtree(target)
        elif target.is_dir():
            target.rmdir()
        os.replace(part, target)
    except OSError as error:
        raise InputError(
            "The folder could not be written.",
            evidence=f"{target}: {error.strerror or error}",
            remedy="Check its permissions and free space.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_new_folder(target: Path) -> None:
    """Refuse a folder that could not be written, before any work is done for it.

    Raises:
        InputError: the folder around it does not exist, or it is a file or has something in it.
    """
    if not target.parent.is_dir():
        raise InputError(
            "The folder to write into does not exist.", evidence=str(target.parent), remedy="Create it first."
        )
    if target.exists() and not target.is_dir():
        raise InputError("The folder to write is a file.", evidence=str(target), remedy="Choose another.")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            "The folder to write has something in it.", evidence=str(target), remedy="Choose a new one."
        )
