"""The work of `headwise serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from headwise.errors import InputError
from headwise.evaluation.extras import extra
from headwise.fixes.patching import Handle, patch
from headwise.fixes.specs import Spec
from headwise.probes.continuous_batching import require_batchable
from headwise.probes.hub import hub_of
from headwise.text import visible
from headwise.zoo.registry import PREFIX, zoo_folder


def serve_patched(name: str, spec: Spec, options: Sequence[str], *, force: bool) -> None:
    """Runs `transformers serve` on a model until it is stopped; the spec is on the model before any request.

    Args:
        name: a hub name, a folder, or a zoo name.
        spec: what to put on it.
        options: of `transformers serve`, as they stand on the command line.
        force: as in `patch`.

    Raises:
        InputError: a package of the extra `serve` is missing, or the folder has a name that cannot be served.
        FixError: the spec is for another model, or cannot act in continuous batching.
    """
    for package in ("fastapi", "uvicorn", "openai"):
        extra(package, "Models are served", group="serve")
    from transformers.cli.transformers import app

    folder = str(zoo_folder(name)) if name.startswith(PREFIX) else name
    if "@" in folder and Path(folder).exists():
        raise InputError(
            "The server of transformers cannot open a folder with @ in its name: it takes what follows for a revision.",
            evidence=folder,
            remedy="Copy or link the folder to another name.",
        )

    def told(handle: Handle) -> None:
        fixes = ", ".join(type(fix).__name__ for fix in handle.fixes)
        typer.echo(f"in force from the first token: {visible(spec.source)} ({fixes})", err=True)
        typer.echo(f"requests name the model: {visible(folder)}", err=True)

    batched = "--continuous-batching" in options
    with loading_patched(spec, force=force, batched=batched, patched=told):
        status = app(["serve", folder, *options], standalone_mode=False)
    if isinstance(status, int) and status:  # an exit, 130 for Ctrl-C, where the command is one of typer's
        raise typer.Exit(status)


@contextmanager
def loading_patched(
    spec: Spec, *, force: bool, batched: bool = False, patched: Callable[[Handle], None] | None = None
) -> Iterator[list[Handle]]:
    """Has the server of transformers put a spec on every model that it loads inside the block.

    Args:
        spec: what to put on it.
        force: as in `patch`.
        batched: refuse at once what cannot act in continuous batching.
        patched: told of the handle on every model, once it acts.
    """
    from transformers.cli.serving import model_manager

    handles: list[Handle] = []
    before: Any = model_manager.ModelManager

    class Patched(before):
        """Loads models and patches them."""

        def load_model_and_processor(self, *args: Any, **kwargs: Any) -> Any:
            """A model with the spec on it, and its processor."""
            loaded = super().load_model_and_processor(*args, **kwargs)
            model = loaded[0]
            if not hub_of(model).sessions:
                spec.check(model, force=force)
                handles.append(patch(model, spec.fixes))
                if batched:
                    require_batchable(hub_of(model))
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
