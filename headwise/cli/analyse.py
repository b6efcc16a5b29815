"""`headwise analyse`: any analysis by name, on any input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json, reads_inputs
from headwise.cli.request import Request, check_output
from headwise.cli.session import session
from headwise.cli.tables import print_answer, print_frame, warning_lines
from headwise.errors import InputError
from headwise.text import visible

_Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A folder with a saved model, a name on the hub, or a saved trace; an analysis of pairs takes two traces: "
        "BEFORE.safetensors AFTER.safetensors NAME.",
    ),
]


@reads_inputs(_Model, default=None)
def analyse(
    request: Request | None,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Analyses by name: entropy, or sinks:epsilon=0.2,min_rows=8."),
    ] = None,
    generate: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Generate this many tokens, greedily, and count them, too."),
    ] = 0,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="FIX", help="Run under a fix; an analysis of pairs compares without and with it."
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Save the result: .json, .parquet, .csv, .html, .svg or .png; once per analysis, in order.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of each table that are printed.")] = 12,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run analyses by name and print what they find; without a model, list them."""
    if request is None:
        with session(debug=debug):
            from headwise.cli._run_analyse import listed

            known = listed()
        lines = [f"{one['name']:<14}{one['about']}" for one in known]
        print_answer({"analyses": known}, lines, as_json=as_json)
        return
    with session(debug=debug):
        from headwise.cli._run_analyse import analysed, check, is_trace_file

        others = [name for name in names or [] if is_trace_file(name)]
        names = [name for name in names or [] if name not in others]
        if not names:
            raise InputError("No analysis is named.", remedy="Name one; `headwise analyse` lists them.")
        calls = check(names, out or [])
        for path in out or []:
            check_output(path)
        results, warnings = analysed(request, calls, others=others, generate=generate, fix=fix)
        for path, result in zip(out or [], results, strict=bool(out)):
            result.save(path)
    answer = {"results": [result.to_dict() for result in results], "warnings": warnings}
    if as_json:
        print_answer(answer, [], as_json=True)
        return
    for line in warning_lines(answer):
        typer.echo(line)
    for result in results:
        typer.echo(visible(f"{result.name}: {result.summary}"))
        print_frame(result.largest(rows))
    for path in out or []:
        typer.echo(f"wrote {visible(str(path))}")
