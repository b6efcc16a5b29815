"""`headwise serve`: the server that transformers ships, with a spec in force from the first token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Model
from headwise.cli.session import session


def serve(
    context: typer.Context,
    model: Model,
    spec: Annotated[
        Path, typer.Option(metavar="FILE", help="JSON file with fixes, as hw.save_spec writes it.")
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Accept a spec of another model whose layers, heads and width are the same."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Serve a model patched; every other option is one of `transformers serve` (--port, --continuous-batching, ...)."""
    with session(debug=debug):
        from headwise.cli._run_serve import serve_patched
        from headwise.fixes.spec.specs import load_spec

        serve_patched(model, load_spec(spec), context.args, force=force)
