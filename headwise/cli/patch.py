"""`headwise patch`: does a spec fit a model, what does it change, and the model with it baked in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json, reads_inputs
from headwise.cli.request import Request
from headwise.cli.session import session
from headwise.errors import InputError
from headwise.text import visible


@reads_inputs()
def patch(
    request: Request,
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC", help="JSON file with fixes, as hw.save_spec writes it.")
    ],
    generate: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Tokens to generate, greedily, without and with the fixes; 20 if not given.",
        ),
    ] = None,
    bake: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the model with the fixes in its weights to a new folder."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Accept a spec of another model whose layers, heads and width are the same."
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check that a spec fits a model; with an input, write what the model says without and with it."""
    with session(debug=debug):
        request.check()
        if generate is not None and request.empty and not request.in_zoo:
            raise InputError(
                "There is nothing to read.", remedy="Give --text, --text-file, --image or --audio."
            )
        if bake is not None:
            from headwise.files import check_new_folder

            check_new_folder(bake)
        from headwise.cli._run_patch import try_spec
        from headwise.fixes.spec.specs import load_spec

        runs = generate is not None or not request.empty
        answer = try_spec(
            request, load_spec(spec), generate=(generate or 20) if runs else 0, folder=bake, force=force
        )
    if as_json:
        from headwise.files import file_name
        from headwise.model.location import short_name

        named = {"model": short_name(answer["model"]), "spec": file_name(answer["spec"])}
        typer.echo(json.dumps(answer | named, indent=1, allow_nan=False))
        return
    named = ", ".join(item["fix"] for item in answer["fixes"])
    lines = [f"warning: {warning}" for warning in answer["warnings"]]
    relation = "is put, by --force, on" if answer["forced"] else "fits"
    lines.append(f"{answer['spec']} {relation} {answer['model']}: {named}")
    for number, example in enumerate(answer["examples"]):
        lines.append(f"example {number}")
        lines += [f"  {side:<8} {example[side] or '(nothing)'}" for side in ("without", "with")]
    if answer["folder"] is not None:
        lines.append(f"wrote {answer['folder']}")
    typer.echo("\n".join(map(visible, lines)))
