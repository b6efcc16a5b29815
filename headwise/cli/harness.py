"""`headwise harness`: tasks of lm-evaluation-harness, with and without fixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import session
from headwise.cli.task_options import BatchSize, Subject, check_out
from headwise.text import visible


def harness(
    model: Subject,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            metavar="NAME|PATH",
            help="A task of the harness, a task file (.yaml), or a folder of these; repeat it. Task files are data: "
            "files beside them and texts to fill in.",
        ),
    ],
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIX",
            help="An arm: SCALE_HEADS:heads=[[1,0]],factor=0.5, A+B for both together, or a spec.json; repeat it.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N examples of every task.")
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Solved examples before every question.")
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Write prompts with the tokenizer's chat template.")
    ] = False,
    batch_size: BatchSize = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of solved examples, sampling and intervals.")] = 0,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code",
            help="Run the Python that task files name, and let them read and fetch anything: for files you trust.",
        ),
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=".json, .parquet or .csv file to write; repeat it."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a language model on tasks of lm-evaluation-harness, and say what fixes change."""
    with session(debug=debug):
        from headwise.results.store import SUFFIXES

        paths = out or []
        for path in paths:
            check_out(path, what="a harness result", suffixes=SUFFIXES)
        from headwise.evaluation.comparison.arms import parse_arms
        from headwise.evaluation.harness.model import require_harness
        from headwise.evaluation.harness.tasks import check_tasks, read_tasks

        check_tasks(task)
        require_harness()
        if not allow_code:
            read_tasks(task)
        if fix:
            parse_arms(fix)
        import headwise as hw
        from headwise.cli.session import quiet_transformers
        from headwise.evaluation.harness import harness as run
        from headwise.evaluation.harness._harness import AS_CODE

        if allow_code:
            typer.echo(f"warning: {AS_CODE}", err=True)
        with quiet_transformers():
            found = run(
                hw.load(model),
                task,
                fixes=fix or None,
                limit=limit,
                num_fewshot=num_fewshot,
                apply_chat_template=apply_chat_template,
                batch_size=batch_size,
                seed=seed,
                allow_code=allow_code,
            )
        for path in paths:
            found.save(path)
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "summary": found.summary}, indent=1, allow_nan=False))
        return
    warned = [f"warning: {text}" for text in found.manifest["warnings"]]
    for line in [*found.lines(), *warned, *(f"wrote {path}" for path in paths)]:
        typer.echo(visible(line, limit=1000))
