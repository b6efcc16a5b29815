"""Writing files whole or not at all."""

from __future__ import annotations

import os
import secrets
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
