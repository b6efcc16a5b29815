"""`headwise fit`: the constants of a fix for a model, as a spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import session
from headwise.cli.tables import warning_lines
from headwise.cli.task_options import (
    BatchSize,
    Guard,
    Seed,
    Subject,
    TaskName,
    TaskOptions,
    check_out,
    options_of,
)
from headwise.text import visible


def fit(
    model: Subject,
    fix: Annotated[
        str, typer.Option("--fix", metavar="FIX", help="The fix, with options if need be: ACT:beta=0.3.")
    ],
    task: TaskName,
    out: Annotated[Path, typer.Option(metavar="SPEC", help="JSON file to write; `headwise patch` reads it.")],
    options: TaskOptions = None,
    number: Annotated[int, typer.Option("-n", min=1, help="Examples of the validation split.")] = 200,
    seed: Seed = 0,
    exclude: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Examples that will be compared with this seed, which are left out; needed for the shipped texts and "
            "clips, which have no validation split.",
        ),
    ] = None,
    batch_size: BatchSize = 32,
    guard: Guard = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the constants of a fix for a model on examples of a task that are not compared, and write them as a spec."""
    with session(debug=debug):
        check_out(out, what="a spec", suffixes=(".json",))
        from headwise.evaluation.comparison.arms import describe, parse_arms
        from headwise.evaluation.registry import find_task

        asked = find_task(task, **options_of(options))
        (given,) = parse_arms(fix)
        import headwise as hw
        from headwise.cli.session import quiet_transformers
        from headwise.fixes.spec.specs import save_spec

        with quiet_transformers():
            subject = hw.load(model)
            compared = None if exclude is None else asked.draw(exclude, seed) if exclude else []
            found = hw.fit(
                subject, fix, asked, n=number, seed=seed, exclude=compared, batch_size=batch_size, guard=guard
            )
        save_spec(out, found, subject)
        idle = _is_neutral(found)
        answer = {
            **describe(found),
            "source": getattr(found, "source", ""),
            "found_nothing": idle and not all(map(_is_neutral, given.fixes)),
            "neutral": idle,
            "path": str(out),
            "warnings": list(subject.warnings),
        }
    if as_json:
        typer.echo(json.dumps(answer, indent=1, allow_nan=False))
        return
    lines = [f"{name}: {json.dumps(value)}" for name, value in answer["parameters"].items()]
    if answer["neutral"]:
        lines.append(f"{'found nothing: ' * answer['found_nothing']}the fix changes nothing")
    for line in (answer["fix"], *lines, *warning_lines(answer), f"wrote {out}"):
        typer.echo(visible(line, limit=2000))


def _is_neutral(fix: Any) -> bool:
    return bool(getattr(fix, "neutral", False))
