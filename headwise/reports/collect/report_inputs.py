"""What a report is made of, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from headwise.analyses import Result
from headwise.analyses.pairs import require_agreement
from headwise.errors import InputError
from headwise.evaluation.results.comparison import Comparison
from headwise.model.location import is_trace, not_loaded
from headwise.probes.trace.trace import Trace
from headwise.reports.collect.example_runs import ExampleRuns


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """What a report is made of, sorted."""

    before: Trace | None = None
    after: Trace | None = None
    runs: ExampleRuns | None = None
    results: tuple[Result, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


def sort_inputs(source: Any) -> ReportInputs:
    """The parts of a source by kind. Of two traces the second is the model with a fix on.

    Raises:
        InputError: something else is among them, nothing at all, more than two traces, or two that do not agree.
    """
    listed = list(source) if isinstance(source, list | tuple) else [source]
    if isinstance(source, str | PathLike):
        raise _not_opened(fspath(source))
    if not listed:
        raise InputError(
            "The list of what to report on is empty.",
            remedy="Give a trace, a result, a comparison or a subject, or a list with one or more.",
        )
    wrong = [item for item in listed if not isinstance(item, Trace | Result | Comparison | ExampleRuns)]
    if wrong:
        raise InputError(
            "A report is made of a trace, a result, a comparison, or a list of these.",
            evidence=f"got {type(wrong[0]).__name__}",
            remedy="Pass the trace of hw.capture, what an analysis returned, or a subject with examples=.",
        )
    traces = [item for item in listed if isinstance(item, Trace)]
    several = [item for item in listed if isinstance(item, ExampleRuns)]
    if len(traces) + 2 * len(several) > 2:
        raise InputError(
            "A report shows one trace, or two: without and with a fix.",
            evidence=f"{len(traces) + len(several)} were given",
            remedy="Make a report of each, or capture all examples in one trace.",
        )
    if len(traces) == 2:
        require_agreement(*traces, agree="prompt")
    runs = several[0] if several else None
    if runs is not None:
        traces = [runs.before.trace, *([runs.after.trace] if runs.after else [])]
    return ReportInputs(
        before=traces[0] if traces else None,
        after=traces[1] if len(traces) > 1 else None,
        runs=runs,
        results=tuple(item for item in listed if isinstance(item, Result)),
        comparisons=tuple(item for item in listed if isinstance(item, Comparison)),
    )


def _not_opened(name: str) -> InputError:
    """A report is asked for of a path or a name."""
    if not is_trace(Path(name)):
        return not_loaded(name)
    return InputError(
        "This is the path of a saved trace, not a trace.",
        evidence=name,
        remedy=f"Read it first: hw.load_trace({name!r}).",
    )
