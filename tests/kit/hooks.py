"""A watch over what this process does: files opened, connections made, programs started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FORBIDDEN = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
_watches: list[list[tuple[str, Any]]] = []


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watches:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        _watches[-1].append(("open", os.fsdecode(arguments[0])))
    elif event.startswith(FORBIDDEN):
        _watches[-1].append((event, arguments))
        raise PermissionError(f"a test forbids {event}{arguments!r}")


@contextmanager
def watch() -> Iterator[list[tuple[str, Any]]]:
    """What happens inside the block: `("open", path)`, and what is forbidden, which raises, too."""
    if _see not in _installed:
        sys.addaudithook(_see)  # which cannot be taken away again
        _installed.append(_see)
    _watches.append(seen := [])
    try:
        yield seen
    finally:
        _watches.remove(seen)


_installed: list[Any] = []
