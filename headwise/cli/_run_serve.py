"""The work of `headwise serve`."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import typer

from headwise.errors import InputError
from headwise.fixes.patching import Handle, patch
from headwise.fixes.spec.specs import Spec
from headwise.model.folder import ModelFolder
from headwise.model.loading import bounded
from headwise.model.location import short_name
from headwise.model.tokenizing import check_tokenizer
from headwise.optional import extra
from headwise.probes.engine.instrumentation import instrument
from headwise.text import visible
from headwise.zoo.registry import PREFIX, zoo_folder

CACHE = 4 * 2**30
"""Bytes that continuous batching may take for its cache and its masks where memory is shared with all else."""
SHARE = 0.6
"""The most that it may take of a small memory, as by itself in transformers."""


def serve_patched(name: str, spec: Spec, options: Sequence[str], *, force: bool) -> None:
    """Runs `transformers serve` on a model until it is stopped; the spec is on the model before any request.

    Args:
        name: a hub name, a folder, or a zoo name.
        spec: what to put on it.
        options: of `transformers serve`, as they stand on the command line.
        force: as in `patch`.

    Raises:
        InputError: a package of the extra `serve` is missing, or the folder has a name that cannot be served.
        LoadError: the folder leads out of itself, or asks for code from the hub without --trust-remote-code.
        FixError: the spec is for another model, or cannot act in continuous batching.
    """
    for package in ("fastapi", "uvicorn", "openai"):
        extra(package, "Models are served", group="serve")
    from transformers.cli.transformers import app

    folder = str(zoo_folder(name)) if name.startswith(PREFIX) else name
    if "@" in folder and os.path.exists(folder):
        raise InputError(
            "The server of transformers cannot open a folder with @ in its name: it takes what follows for a revision.",
            evidence=folder,
            remedy="Copy or link the folder to another name.",
        )
    if os.path.isdir(folder):
        ModelFolder(Path(folder)).check(trust="--trust-remote-code" in options)

    served = short_name(folder) if os.path.isdir(folder) else folder

    def announce(handle: Handle) -> None:
        fixes = ", ".join(type(fix).__name__ for fix in handle.fixes)
        typer.echo(f"in force from the first token: {visible(spec.source)} ({fixes})", err=True)
        typer.echo(f"requests name the model: {visible(served)}", err=True)

    batched = "--continuous-batching" in options
    share = cache_share(options) if batched else None
    if share is not None:
        typer.echo(
            f"The cache of continuous batching may take {share:.1%} of the memory that the model leaves free: "
            "--cb-max-memory-percent takes another share, --cb-num-blocks a size.",
            err=True,
        )
        options = [*options, "--cb-max-memory-percent", str(share)]
    places = {served: folder}
    with (
        loading_patched(spec, force=force, batched=batched, patched=announce, places=places),
        _interruptible(),
    ):
        status = app(["serve", served, *options], standalone_mode=False)
    if isinstance(status, int) and status:  # an exit, 130 for Ctrl-C, where the command is one of typer's
        raise typer.Exit(status)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, always: the handler that asyncio puts in place of Python's own may lose it."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cache_share(options: Sequence[str]) -> float | None:
    """The share of free memory that the cache of continuous batching is given.

    None where the options say something about it, and on a graphics card, whose memory is there for that:
    transformers decides.
    """
    named = {}
    for place, option in enumerate(options):
        name, _, value = option.partition("=")
        named[name] = value or next(iter(options[place + 1 :]), "")
    if {"--cb-max-memory-percent", "--cb-num-blocks"} & named.keys():
        return None
    device = named.get("--device", "auto")
    if device == "auto":
        import torch

        found = torch.accelerator.current_accelerator(check_available=True)
        device = "cpu" if found is None else found.type
    if device.split(":")[0] not in ("cpu", "mps"):
        return None
    if importlib.util.find_spec("psutil") is None:  # without it, transformers does not know the memory either
        return None
    import psutil

    return min(SHARE, round(CACHE / psutil.virtual_memory().total, 4))


@contextmanager
def loading_patched(
    spec: Spec,
    *,
    force: bool,
    batched: bool = False,
    patched: Callable[[Handle], None] | None = None,
    places: Mapping[str, str] | None = None,
) -> Iterator[list[Handle]]:
    """Has the server of transformers put a spec on every model that it loads inside the block.

    Args:
        spec: what to put on it.
        force: as in `patch`.
        batched: refuse at once what cannot act in continuous batching.
        patched: told of the handle on every model, once it acts.
        places: name of a model, as requests and the server's answers have it -> its folder.
    """
    from transformers.cli.serving import model_manager

    handles: list[Handle] = []
    limits = copy_context()  # requests are served in threads of their own
    before: Any = model_manager.ModelManager

    def placed(name: str) -> str:
        model, at, revision = name.rpartition("@")
        return f"{(places or {}).get(model, model)}{at}{revision}"

    class Patched(before):
        """Loads models from where they are, and patches them."""

        def _load_processor(self, name: str, *args: Any, **kwargs: Any) -> Any:
            return super()._load_processor(placed(name), *args, **kwargs)

        def _load_model(self, name: str, *args: Any, **kwargs: Any) -> Any:
            return super()._load_model(placed(name), *args, **kwargs)

        def load_bounded(self, name: str, *args: Any, **kwargs: Any) -> Any:
            """The same without the spec; of a folder no more is taken than `hw.load` takes."""
            folder = placed(name).rpartition("@")[0] or name  # a revision stands behind it
            if os.path.isdir(folder):
                check_tokenizer(Path(folder))
            with bounded(folder, {}):
                return super().load_model_and_processor(name, *args, **kwargs)

        def load_model_and_processor(self, *args: Any, **kwargs: Any) -> Any:
            """A model with the spec on it, and its processor."""
            loaded = limits.copy().run(self.load_bounded, *args, **kwargs)
            model = loaded[0]
            if not instrument(model).sessions:
                spec.check(model, force=force)
                handles.append(patch(model, spec.fixes))
                if batched:
                    instrument(model).require_batchable()
                if patched is not None:
                    patched(handles[-1])
            return loaded

    model_manager.ModelManager = Patched
    try:
        yield handles
    finally:
        model_manager.ModelManager = before
        for handle in handles:
            handle.remove()
