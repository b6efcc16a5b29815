"""What `headwise analyse` does once its arguments are known to be good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import headwise as hw
from headwise.analyses.calls import AnalysisCall, analysis_call, needs_of
from headwise.cli._run import load, run
from headwise.cli.request import Request
from headwise.cli.session import progress, progress_count, quiet_transformers
from headwise.errors import InputError
from headwise.files import suffix_of
from headwise.fixes.parsing import parse_fix
from headwise.results.result import Result


def listed() -> list[dict[str, Any]]:
    """Every analysis: its name, what it says of itself, what it needs and takes, and its parameters."""
    every = [hw.analyses.get(name) for name in hw.analyses.names()]
    return [
        {
            "name": one.name,
            "about": (one.__doc__ or "").strip().splitlines()[0] if one.__doc__ else "",
            "kind": one.kind,
            "takes": one.inputs,
            "needs": list(one.needs),
            "parameters": list(one.parameters),
        }
        for one in every
    ]


def check(names: Sequence[str], out: Sequence[Path]) -> list[AnalysisCall]:
    """The analyses of a command line.

    Raises:
        InputError: one is unknown, or there are not as many files as analyses.
    """
    calls = [analysis_call(name) for name in names]
    if out and len(out) != len(calls):
        raise InputError(
            "There are not as many files as analyses.",
            evidence=f"{len(out)} files, {len(calls)} analyses",
            remedy="Give --out once per analysis, in order.",
        )
    return calls


def is_trace_file(name: str) -> bool:
    """True for the name of a file that could be a trace."""
    return suffix_of(name) == ".safetensors"


def analysed(
    request: Request,
    calls: Sequence[AnalysisCall],
    *,
    others: Sequence[str] = (),
    generate: int,
    fix: str | None,
) -> tuple[list[Result], list[str]]:
    """Load, run without and with the fix as far as it is needed, analyse.

    Args:
        request: the model and what it reads, or a saved trace.
        calls: the analyses.
        others: saved traces behind the first.
        generate: tokens to generate.
        fix: a fix.

    Returns:
        A result per analysis, and what was found worth saying on the way.
    """
    if is_trace_file(request.model) or os.path.isfile(request.model):  # a model is a folder
        traces = [hw.load_trace(path) for path in (request.model, *others)]
        if not request.empty or fix or generate:
            raise InputError(
                "A saved trace was captured already.",
                evidence=request.model,
                remedy="Give it without inputs, --fix and --generate.",
            )
        notes = [note for trace in traces for note in trace.warnings]
        return [call(*traces) for call in calls], list(dict.fromkeys(notes))
    if others:
        raise InputError(
            "A saved trace stands behind a model.",
            evidence=str(others[0]),
            remedy="Give two traces and no model, or a model with --fix.",
        )
    request.check()
    kinds = {call.analysis.inputs for call in calls}
    if request.empty and not request.in_zoo and kinds != {"subject"}:  # those say themselves what they need
        raise InputError("There is nothing to read.", remedy="Give --text, --text-file, --image or --audio.")
    if "pair" in kinds and fix is None:
        raise InputError(
            "An analysis of pairs compares the model without and with a fix.",
            evidence=", ".join(call.analysis.name for call in calls if call.analysis.inputs == "pair"),
            remedy="Add --fix.",
        )
    with quiet_transformers():
        subject, notes = load(request.model)
        keep = needs_of(calls)
        traces = []
        fixes = None if fix is None else parse_fix(fix, subject)
        wanted = ([None] if fixes is None or "pair" in kinds else []) + ([fixes] if fixes is not None else [])
        for one in wanted if kinds - {"subject"} else ():
            with nullcontext() if one is None else hw.patch(subject, one):
                trace, more = run(subject, request, keep=keep, generate=generate)
            traces.append(trace)
            notes += [note for note in (*more, *trace.warnings) if note not in notes]
        sources = {
            "trace": traces[-1:],
            "pair": traces,
            "subject": [subject, request.examples(generate)],
        }
        running = nullcontext() if fixes is None else hw.patch(subject, fixes)
        counted = any("progress" in call.analysis.parameters for call in calls)
        bar = progress_count("Analysing") if counted else progress("Analysing")
        with bar as show, running:  # some run the model themselves
            ready = [_showing(_generating(call, generate), show) for call in calls]
            return [call(*sources[call.analysis.inputs]) for call in ready], notes


def _showing(call: AnalysisCall, show: Any) -> AnalysisCall:
    """The call with a bar to tell how far it is, where it does so."""
    if "progress" not in call.analysis.parameters:
        return call
    return replace(call, parameters={**call.parameters, "progress": show})


def _generating(call: AnalysisCall, generate: int) -> AnalysisCall:
    """The call with the command's --generate, where it generates by itself and says nothing of it."""
    if not generate or "generate" not in call.analysis.parameters:
        return call
    return replace(call, parameters={"generate": generate, **call.parameters})
