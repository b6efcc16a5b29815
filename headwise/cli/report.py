"""`headwise report`: run a model on a few examples, with and without a fix, and write one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json, reads_inputs
from headwise.cli.request import Request
from headwise.cli.session import FAILED, session
from headwise.cli.tables import print_answer, warning_lines
from headwise.cli.task_options import Number, Seed, TaskOptions, options_of
from headwise.errors import InputError
from headwise.text import shortened


@reads_inputs()
def report(
    request: Request,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Without inputs: report on N examples of the task, those that a fix changed first; or, of a model of "
            "the zoo, on N of its own.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file to write.")] = Path("report.html"),
    generate: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Generate this many tokens, greedily, and report on them too."),
    ] = 0,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIX",
            help="Run it a second time with a fix: VAR, VHR:alpha=1.5, VAR+VHR, or a spec.json. Repeated, with --task: "
            "more arms of the comparison; maps show the first.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Score the fixes on this task; `headwise tasks` lists them."),
    ] = None,
    options: TaskOptions = None,
    number: Number = None,
    seed: Seed = 0,
    analysis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Show this analysis in place of the first five; repeat it for more. `headwise analyse` lists them.",
        ),
    ] = None,
    max_size: Annotated[
        float,
        typer.Option(metavar="MB", min=0, help="Above this size, write a folder instead of one file."),
    ] = 10.0,
    max_sink_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Exit with status 1 if more of the heads have a sink."
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the model and write one HTML page that says what its heads did, where, and whether a fix helped."""
    with session(debug=debug):
        request = replace(request, samples=samples)
        request.check(out, task=task is not None)
        _check(fix, task, options, number)
        if analysis:
            from headwise.analyses.calls import analysis_calls

            analysis_calls(analysis)
        from headwise.cli._run_report import FixComparison, write_report

        fix_comparison = FixComparison(tuple(fix or ()), task, options_of(options), number, seed)
        answer = write_report(
            request,
            out,
            generate=generate,
            fix_comparison=fix_comparison,
            limit=round(max_size * 1e6),
            judge_sinks=max_sink_share is not None,
            analyses=analysis,
        )
    share = answer["heads_with_sink"]
    failed = max_sink_share is not None and share > max_sink_share
    many = f" and {answer['files'] - 1} files beside it" if answer["files"] > 1 else ""
    wrote = f"wrote {answer['path']}{many}, {answer['bytes'] / 1e6:.1f} MB"
    lines = [*map(shortened, answer["verdict"]), *warning_lines(answer), wrote]
    if failed:
        lines.append(f"failed: a share of {share:.3f} of the heads has a sink, more than {max_sink_share:g}")
    print_answer(answer, lines, as_json=as_json)
    raise typer.Exit(FAILED if failed else 0)


def _check(fix: list[str] | None, task: str | None, options: list[str] | None, number: int | None) -> None:
    """Refuse what does not belong together, before the model is loaded."""
    if task is None:
        given = "--set" if options else "-n" if number is not None else ""
        if given:
            raise InputError(f"{given} belongs to a task.", remedy="Add --task NAME, or leave it out.")
        if fix and len(fix) > 1:
            raise InputError(
                "Several arms can only be compared on a task.",
                evidence=", ".join(fix),
                remedy="Add --task NAME, or join fixes that act together: --fix VAR+VHR.",
            )
    elif not fix:
        raise InputError("There is no fix to score on the task.", remedy="Add --fix, or use headwise eval.")
    if fix:
        from headwise.evaluation.comparison.arms import parse_arms

        parse_arms(fix)
    if task is not None:
        from headwise.evaluation.registry import find_task

        find_task(task, **options_of(options))
