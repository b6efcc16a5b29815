"""`headwise circuit`: the edges that carry a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import progress, session
from headwise.cli.tables import print_answer, print_frame
from headwise.cli.task_options import BatchSize, Out, Seed, Subject, check_outputs
from headwise.errors import InputError
from headwise.text import visible


def circuit(
    model: Subject,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Pairs that are drawn: ioi or colored-objects.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Pairs of your own, in JSON lines: clean, corrupted, correct, wrong."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="eap, eap-ig, eap-ig-activations, clean-corrupted, exact or acdc."),
    ] = "eap-ig",
    edges: Annotated[int, typer.Option(metavar="N", min=1, help="Edges that are taken.")] = 100,
    number: Annotated[int, typer.Option("-n", min=1, help="Pairs that are drawn.")] = 32,
    seed: Seed = 0,
    batch_size: BatchSize = 16,
    out: Out = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Edges that are printed.")] = 12,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the edges between heads, MLPs and logits that carry a task, and how much of it they restore."""
    with session(debug=debug):
        if (task is None) == (pairs is None):
            raise InputError("A circuit is found on a task.", remedy="Give either --task or --pairs.")
        paths = check_outputs(out, None, what="a circuit")
        import headwise as hw
        from headwise.circuits.drawn import drawn_pairs
        from headwise.circuits.texts import EXAMPLE, FIELDS, text_pairs
        from headwise.cli.session import quiet_transformers
        from headwise.evaluation.data.files import read_json_lines

        with quiet_transformers():
            if pairs is None:
                subject = hw.load(model)
                found = drawn_pairs(subject, str(task), number, seed)
            else:
                lines = read_json_lines(pairs, EXAMPLE)
                subject = hw.load(model)
                given = [{field: row.text(field) for field in FIELDS} for row in lines]
                found = text_pairs(subject, given, pairs.stem)
            options: dict[str, Any] = {"method": method}
            with progress("Scoring edges"):
                result = hw.analyses.circuit(subject, found, **options, edges=edges, batch_size=batch_size)
        for path in paths:
            result.save(path)
    if as_json:
        print_answer(result.to_dict(), [], as_json=True)
        return
    typer.echo(visible(f"{found.name}: {result.summary}"))
    kept = result.frame[result.frame["kept"]].drop(columns="kept")
    print_frame(kept.loc[kept["score"].abs().sort_values(ascending=False, kind="stable").index].head(rows))
    for path in paths:
        typer.echo(f"wrote {visible(str(path))}")
