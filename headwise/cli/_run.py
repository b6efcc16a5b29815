"""What the commands do once their arguments are known to be good: load, prepare, run, write."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import headwise as hw
from headwise.cli.request import Request
from headwise.cli.session import progress, quiet_transformers
from headwise.probes.run_examples import run_examples
from headwise.probes.selection import Selection
from headwise.subject.generation import prepare_run

if TYPE_CHECKING:
    from headwise.probes.doctor import DoctorReport
    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject

Result = TypeVar("Result")


def write_trace(request: Request, out: Path, *, keep: Mapping[str, Any], generate: int) -> dict[str, Any]:
    """Load, run, save what was captured.

    Returns:
        The answer of `headwise trace --json`.
    """
    for option, choice in keep.items():
        Selection.of(choice, option)  # refused before anything is loaded
    with quiet_transformers():
        subject, notes = load(request.model)
        trace, more = run(subject, request, keep=keep, generate=generate)
        with progress("Writing the trace"):
            trace.save(out)
    return {
        "path": str(out),
        "bytes": out.stat().st_size,
        "model": trace.meta.get("model"),
        "examples": trace.examples,
        "sites": [str(site) for site in trace.sites],
        "unreached": trace.unreached,
        "warnings": tuple(dict.fromkeys((*notes, *more, *trace.warnings))),
    }


def examine(request: Request) -> DoctorReport:
    """Load and compare with eager attention, on the given inputs or on the doctor's own."""
    with quiet_transformers():
        subject, _ = load(request.model)
        inputs = None if request.empty else subject.prepare(**request.arguments())
        with progress("Comparing with eager attention"):
            return hw.doctor(subject, inputs)


def load(model: str) -> tuple[Subject, list[str]]:
    """The subject, and what was said while it was loaded."""
    with progress(f"Loading {model}"):
        return heard(lambda: hw.load(model))


def heard(work: Callable[[], Result]) -> tuple[Result, list[str]]:
    """What some work returns, and the warnings for users that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        result = work()
    return result, list(dict.fromkeys(str(warning.message) for warning in caught))


def run(
    subject: Subject, request: Request, *, keep: Mapping[str, Any], generate: int
) -> tuple[Trace, list[str]]:
    """Capture the model on what it is asked to read, and what was found worth saying on the way."""
    prepared, notes = heard(lambda: prepare_run(subject, generate, **request.arguments()))
    description = "Generating" if generate else "Running the model"
    with progress(description, total=generate or None) as advance:
        (ran,) = run_examples(subject, [prepared], generate=generate, capture=keep, on_forward=advance)
    return ran.trace, [*prepared.notes, *notes]
