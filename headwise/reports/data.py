"""From a trace or results to the content of a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.analyses import Result, distance, entropy, mass, sink_rate, sinks
from headwise.errors import CaptureError, InputError
from headwise.layout import ROLES
from headwise.probes.trace import Trace
from headwise.reports.content import Content, percent
from headwise.reports.examples import examples_of
from headwise.reports.maps import maps_of, sink_share, strongest_keys
from headwise.reports.tables import layer_table, role_table, sink_table
from headwise.reports.verdict import headlines_of, sink_warning
from headwise.text import shortened

if TYPE_CHECKING:
    from headwise.subject import Subject

FIRST_ANALYSES: tuple[Callable[[Trace], Result], ...] = (sinks, sink_rate, entropy, distance, mass)
SPOKEN = ("sinks", "entropy", "mass", "distance")
"""Results whose summaries make the verdict; the others only when none of these is there."""


def gather(
    source: Trace | Result | Sequence[Result],
    *,
    subject: Subject | None = None,
    title: str | None = None,
    call: str | None = None,
    command: str | None = None,
) -> Content:
    """Everything the page says, as plain values.

    Raises:
        InputError: when the source is not a trace, a result or several results.
        CaptureError: when none of the first analyses can be run on the trace.
    """
    if isinstance(source, Trace):
        trace, (results, failures) = source, _analysed(source)
    else:
        trace, results, failures = None, _checked(source), []
    meta = trace.meta if trace is not None else results[0].provenance
    by_name = {result.name: result for result in results}
    found = by_name.get("sinks")

    metrics, share = [], None
    if trace is not None:
        metrics.append(strongest_keys(trace))
        share = sink_share(trace, found.provenance["parameters"]["epsilon"]) if found else None
    metrics += [metric for result in results for metric in maps_of(result)]
    tables = [sink_table(found), role_table(by_name.get("mass")), layer_table(metrics)]
    spoken = [by_name[name].summary for name in SPOKEN if name in by_name]
    return Content(
        title=title or _short_name(str(meta.get("model") or "Attention report")),
        headlines=headlines_of(by_name, share),
        verdict=tuple(shortened(sentence) for sentence in spoken or [result.summary for result in results]),
        warnings=(*_warnings(meta, trace), *sink_warning(found), *failures, *_mixed(results)),
        metrics=tuple(metrics),
        tables=tuple(table for table in tables if table is not None),
        examples=examples_of(trace) if trace is not None else (),
        provenance=tuple(_provenance(meta, subject).items()),
        call=call if call is not None else str(meta.get("call") or ""),
        command=command or "",
        sink_share=share,
    )


def _analysed(trace: Trace) -> tuple[list[Result], list[str]]:
    results, failures = [], {}
    for analysis in FIRST_ANALYSES:
        try:
            results.append(analysis(trace))
        except CaptureError as error:
            failures[analysis.__name__.replace("_", " ")] = error
    if not results:
        raise failures["sinks"]
    return results, [f"No {name}: {error}" for name, error in failures.items()]


def _checked(source: Result | Sequence[Result]) -> list[Result]:
    results = (
        [source] if isinstance(source, Result) else list(source) if isinstance(source, list | tuple) else []
    )
    wrong = [item for item in results if not isinstance(item, Result)]
    if wrong or not results:
        raise InputError(
            "A report is made of a trace, a result, or a list of results.",
            evidence=f"got {type(wrong[0] if wrong else source).__name__}",
            remedy="Pass the trace of hw.capture, or what an analysis returned.",
        )
    return results


def _warnings(meta: Mapping[str, Any], trace: Trace | None) -> list[str]:
    warnings = [str(warning) for warning in meta.get("warnings") or ()]
    unreached = [name for name in meta.get("unreached") or () if not any(name in said for said in warnings)]
    if unreached:
        warnings.append(
            f"Attention that was not seen, and is missing from every number here: {_some(unreached)}."
        )
    if fallback := meta.get("fallback"):
        warnings.append(
            f"Seen by intercepting their softmax, outside the attention interface: {_some(fallback)}."
        )
    for stack, axis in trace.layout.axes.items() if trace is not None else ():
        padding = (axis.roles == ROLES.index("padding")).float().mean().item()
        if padding > 0:
            warnings.append(
                f"{percent(padding)} of the {stack} positions are padding; they are left out of every number."
            )
    return warnings


def _some(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _mixed(results: Sequence[Result]) -> list[str]:
    runs = {(result.provenance.get("model"), result.provenance.get("created")) for result in results}
    return (
        ["These results come from several captures; the provenance is that of the first."]
        if len(runs) > 1
        else []
    )


def _short_name(name: str) -> str:
    """A hub name as it is; of the path of a folder, the last two parts."""
    return "/".join(Path(name).parts[-2:])


def _provenance(meta: Mapping[str, Any], subject: Subject | None) -> dict[str, str]:
    names = ("model", "model_class", "revision", "dtype", "device", "attention")
    facts = {name.replace("_", " "): meta.get(name) for name in names}
    if subject is not None:
        facts["parameters"] = f"{sum(weight.numel() for weight in subject.model.parameters()):,}"
    facts |= {f"{name} version": version for name, version in (meta.get("versions") or {}).items()}
    facts |= {name: meta.get(name) for name in ("examples", "seed", "created")}
    if meta.get("seconds") is not None:
        facts["time in the capture"] = f"{meta['seconds']:.2f} s"
    if parameters := meta.get("parameters"):
        facts["parameters of the analysis"] = _plain(parameters)
    return {name: _plain(value) for name, value in facts.items() if value not in (None, "", [], {})}


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
