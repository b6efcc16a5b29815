"""The commands. Each mirrors one Python call; heavy imports wait until the arguments are known to be good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwise.cli import zoo
from headwise.cli.analyse import analyse
from headwise.cli.circuit import circuit
from headwise.cli.compare import compare
from headwise.cli.evaluate import evaluate, list_tasks
from headwise.cli.fit import fit
from headwise.cli.harness import harness
from headwise.cli.options import Debug, Json, reads_inputs
from headwise.cli.patch import patch
from headwise.cli.report import report
from headwise.cli.request import Request
from headwise.cli.search import search
from headwise.cli.serve import serve
from headwise.cli.session import FAILED, session
from headwise.cli.tables import print_answer, warning_lines
from headwise.text import visible

app = typer.Typer(
    epilog="Exit status: 0; 1 when a finding fails a threshold, or on an unforeseen error; 2 for bad input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from headwise._version import __version__

        typer.echo(f"headwise {__version__}")
        raise typer.Exit


@app.callback()
def headwise(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
    times: Annotated[
        float | None,
        typer.Option(
            "--file-limits",
            metavar="TIMES",
            help="Read files up to this many times the usual limits on size; stands before the command.",
        ),
    ] = None,
) -> None:
    """Show what every attention head of a transformer does, repair it, and prove the repair."""
    if times is not None:
        with session(debug=False):
            from headwise.readers.limits import file_limits

            context.with_resource(file_limits(times=times))


app.command("report")(report)
app.command("analyse")(analyse)


@app.command()
@reads_inputs()
def trace(
    request: Request,
    out: Annotated[Path, typer.Option(metavar="FILE", help="safetensors file to write.")] = Path(
        "run.safetensors"
    ),
    maps: Annotated[
        bool, typer.Option("--maps", help="Keep the patterns, every query by every key.")
    ] = False,
    heads: Annotated[bool, typer.Option("--heads", help="Keep the output of every head before W_O.")] = False,
    residual: Annotated[
        bool, typer.Option("--residual", help="Keep the residual entering every layer.")
    ] = False,
    qkv: Annotated[bool, typer.Option("--qkv", help="Keep queries, keys and values.")] = False,
    maps_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITES", help='Keep the patterns of these alone: "cross", "decoder cross 0-3", "L2H3".'
        ),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(metavar="SITES", help="Keep nothing of other sites and heads; repeat it for more."),
    ] = None,
    generate: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Generate this many tokens, greedily; 0 runs one forward pass."
        ),
    ] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the model and save what was captured; `headwise.load_trace` reads it."""
    with session(debug=debug):
        request.check(out)
        from headwise.cli._run import write_trace

        keep = {
            "maps": maps_of or maps,
            "heads": heads,
            "residual": residual,
            "qkv": qkv,
            "sites": sites or True,
        }
        answer = write_trace(request, out, keep=keep, generate=generate)
    size = f"{len(answer['sites'])} sites, {answer['bytes'] / 1e6:.1f} MB"
    print_answer(answer, [*warning_lines(answer), f"wrote {answer['path']}: {size}"], as_json=as_json)


@app.command()
@reads_inputs()
def doctor(
    request: Request,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare headwise with the model's own eager attention, site by site; status 1 if they differ."""
    with session(debug=debug):
        request.check()
        from headwise.cli._run import examine

        diagnosis = examine(request)
    if as_json:
        print_answer(diagnosis.to_dict(), [], as_json=True)
    else:
        from headwise.cli.tables import print_doctor

        print_doctor(diagnosis)
    raise typer.Exit(0 if diagnosis.ok else FAILED)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write; created if need be.")] = Path(
        "demo"
    ),
    debug: Debug = False,
) -> None:
    """Write a report for every modality of the zoo, and an index page."""
    with session(debug=debug):
        from headwise.cli.demo import write_demo

        pages = write_demo(out)
    typer.echo("\n".join(f"wrote {visible(str(page))}" for page in pages))


app.command("eval")(evaluate)
app.command("compare")(compare)
app.command("circuit")(circuit)
app.command("fit")(fit)
app.command("search")(search)
app.command("harness")(harness)
app.command("patch")(patch)
app.command("serve", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
app.command("tasks")(list_tasks)
app.add_typer(zoo.app, name="zoo")
