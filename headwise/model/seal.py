"""The opening of a model folder by itself: no connection, nothing from a cache, no code and no pickle of the folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from headwise.errors import HeadwiseError, LoadError
from headwise.model.folder import ModelFolder
from headwise.model.location import check_place

_CODE = (".py", ".pyc", ".pyd", ".so", ".dylib", ".dll")
_INSTALLED = tuple(os.path.realpath(place) + os.sep for place in (sys.prefix, sys.base_prefix))
_CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


@dataclass(frozen=True)
class _Seal:
    """What may be opened while one folder is."""

    folder: ModelFolder
    caches: tuple[str, ...]
    connect: bool
    trust: bool
    refused: list[str] = field(default_factory=list)

    def refusal(self, event: str, arguments: tuple[Any, ...]) -> str:
        """What is wrong with an event of the interpreter; empty where nothing is."""
        if event in _CONNECTIONS:
            return "" if self.connect else f"a connection to {_host(arguments)} was not made"
        if event == "pickle.find_class":
            return "" if self.trust else f"a pickle asks for {arguments[0]}.{arguments[1]}"
        place = {"open": 0, "ctypes.dlopen": 0, "import": 1}.get(event)
        if place is None or not isinstance(arguments[place], str | bytes | os.PathLike):
            return ""
        path = os.path.realpath(os.fsdecode(arguments[place]))
        inside = self.folder.holds(path)
        if inside and not self.trust and path.endswith(_CODE) and not path.startswith(_INSTALLED):
            return f"code of the folder, {os.path.basename(path)}, was not run"
        if not inside and not self.connect and path.startswith(self.caches):
            return f"{path} is not a file of the folder"
        return ""


_SEAL: ContextVar[_Seal | None] = ContextVar("headwise_seal", default=None)


@contextmanager
def sealed(name: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The options of `from_pretrained` that open a folder, and nothing else, in this block and thread.

    A name on the hub is left as it is. `local_files_only=False` allows what the folder names on the hub,
    `trust_remote_code=True` its code and pickles.

    Args:
        name: a folder, or a name on the hub.
        options: what the user gave.

    Raises:
        LoadError: there is no such folder, it leads out of itself, or needs something that is not in it.
    """
    subfolder = options.get("subfolder") or ""
    check_place(name, subfolder)
    place = Path(name, subfolder)
    if not os.path.isdir(place):
        yield dict(options)
        return
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    folder, trust = ModelFolder(place), bool(options.get("trust_remote_code"))
    folder.check(trust=trust)
    connect = options.get("local_files_only") is False
    caches = (constants.HF_HUB_CACHE, options.get("cache_dir") or constants.HF_HUB_CACHE)
    roots = tuple(os.path.realpath(cache) + os.sep for cache in caches)
    seal = _Seal(folder, roots, connect, trust)
    _watch()
    token = _SEAL.set(seal)
    try:
        yield {**options, "local_files_only": not connect}
    except HeadwiseError as error:
        chain = _chain(error)
        missing = any(isinstance(one, LocalEntryNotFoundError | OfflineModeIsEnabled) for one in chain)
        if not (seal.refused or missing):
            raise
        raise LoadError(
            f"The folder {folder.name} needs something that is not in it.",
            evidence="; ".join(filter(None, (folder.wants(), *seal.refused[:1]))),
            remedy="Save the whole model into the folder, or, if you trust it, hw.load(..., local_files_only=False).",
        ) from error
    finally:
        _SEAL.reset(token)


@cache
def _watch() -> None:
    """Have the interpreter ask before it connects, opens and imports; once, and of no consequence outside of a seal."""

    def ask(event: str, arguments: tuple[Any, ...], current: Any = _SEAL.get) -> None:
        seal = current()
        if seal is not None and (reason := seal.refusal(event, arguments)):
            seal.refused.append(reason)
            raise LoadError(f"The model folder is opened by itself: {reason}.")

    sys.addaudithook(ask)


def _host(arguments: tuple[Any, ...]) -> str:
    address = next((one for one in arguments if isinstance(one, str | tuple)), "")
    return str(address[0] if isinstance(address, tuple) and address else address)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
