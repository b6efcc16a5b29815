"""From traces, results and comparisons to the content of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool

from headwise.analyses import Result
from headwise.analyses.calls import AnalysisCall, analysis_calls
from headwise.errors import CaptureError, InputError
from headwise.evaluation.results.comparison import Comparison
from headwise.figures.drawers import static
from headwise.figures.graph import graph_of
from headwise.figures.labels import said
from headwise.model.location import short_name
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.reports.collect.comparisons import before_and_after, shown_comparison
from headwise.reports.collect.example_runs import ExampleRuns, prepare_example
from headwise.reports.collect.examples import MOST_EXAMPLES, examples_of, trimmed
from headwise.reports.collect.heads import groups_of, partly_drawn, sink_keys, sinks_of
from headwise.reports.collect.maps import (
    is_map,
    is_word_map,
    maps_of,
    sink_share,
    strongest_keys,
    without_sinks,
)
from headwise.reports.collect.media import picture_of, sound_of
from headwise.reports.collect.patterns import PatternThumbnails, pattern_thumbnails
from headwise.reports.collect.provenance import provenance_of, warnings_of
from headwise.reports.collect.report_inputs import ReportInputs, sort_inputs
from headwise.reports.collect.shares import KeyShares, key_shares
from headwise.reports.collect.tables import layer_table, role_table, shares_without_sinks, sink_table
from headwise.reports.collect.verdict import change_of, headlines_of, one_row, sink_warning
from headwise.reports.collect.windows import window_start
from headwise.reports.collect.words import word_map_of
from headwise.reports.content.content import Content, Finding, HeadMap
from headwise.reports.content.shown_example import ShownExample
from headwise.text import shortened

if TYPE_CHECKING:
    from headwise.subject import Subject

FIRST_ANALYSES = ("sinks", "sink_rate", "entropy", "distance", "mass")
"""Those of a page that names none."""
SPOKEN = ("sinks", "entropy", "mass", "distance")
"""Results whose summaries make the verdict, the first three of them; the others only when none of these is there."""


def build_content(
    source: Any,
    *,
    subject: Subject | None = None,
    examples: Sequence[Mapping[str, Any]] | None = None,
    title: str | None = None,
    call: str | None = None,
    command: str | None = None,
    analyses: Sequence[Any] | None = None,
) -> Content:
    """Everything the page says, as plain values.

    Raises:
        InputError: the source is no trace, result, comparison or runs, or a sequence of these.
        CaptureError: when none of the first analyses can be run on the trace.
    """
    inputs = sort_inputs(source)
    calls = analysis_calls(FIRST_ANALYSES if analyses is None else analyses)
    trace, runs = inputs.before, inputs.runs
    if subject is None and runs is not None:
        subject = runs.subject
    results, failures = list(inputs.results), []
    if trace is not None:
        own, failures = _analysed(calls, trace, inputs.after, subject, runs.given if runs else examples)
        given = {result.name: result for result in reversed(results)}
        own = [given.pop(result.name, result) for result in own]
        results = own + [result for result in results if not any(result is one for one in own)]
    by_name = {item.name: item for item in results if item.name != "sinks" or _lists_sinks(item)}
    found = by_name.get("sinks")
    first = results[0].provenance if results else inputs.comparisons[0].manifest if inputs.comparisons else {}
    meta = trace.meta if trace is not None else first

    content = Content(
        title=title or short_name(str(meta.get("model") or "Attention report")),
        verdict=_verdict(by_name, results, inputs.comparisons, None if analyses is None else len(calls)),
        warnings=tuple(
            dict.fromkeys(
                (
                    *warnings_of(meta, trace if runs is None else None),
                    *(runs.before.notes if runs else ()),
                    *(remark for item in inputs.comparisons for remark in _remarks(item)),
                    *sink_warning(found),
                    *failures,
                    *_mixed(inputs.results),
                    *_cut_off(trace),
                )
            )
        ),
        comparisons=tuple(
            shown_comparison(item, number) for number, item in enumerate(inputs.comparisons, start=1)
        ),
        words=tuple(word_map_of(result) for result in results if is_word_map(result)),
        graphs=tuple(graph_of(result) for result in results if result.kind == "edges" and len(result.frame)),
        findings=tuple(finding_of(result) for result in results if _is_finding(result)),
        provenance=tuple(provenance_of(meta, subject).items()),
        call=call if call is not None else str(meta.get("call") or ""),
        command=command or "",
        fix=runs.fix if runs else "with the fix" if inputs.after is not None else "",
        spec=runs.spec if runs else "",
    )
    share, metrics, left = None, _maps_of_results(results, calls, inputs.after), None
    if trace is not None:
        keys, shares = sink_keys(trace, found), key_shares(trace)
        left = shares_without_sinks(trace, keys)
        share = sink_share(shares, found.provenance["parameters"]["epsilon"]) if found else None
        content, metrics = _with_heads(content, inputs, shares, keys, metrics, subject, examples)
    tables = [sink_table(found), role_table(by_name.get("mass"), left), layer_table(metrics)]
    return replace(
        content,
        headlines=one_row(
            [
                *map(before_and_after, inputs.comparisons),
                *filter(None, [change_of(metrics, content.fix)]),
                *headlines_of(by_name, share, content.groups),
            ]
        ),
        metrics=tuple(metrics),
        tables=tuple(table for table in tables if table is not None),
        sink_share=share,
    )


def finding_of(result: Result) -> Finding:
    """A result as it is drawn where it is no map of heads."""
    return Finding(said(result.name).capitalize(), result.summary, static(result), result.description)


def _is_finding(result: Result) -> bool:
    """False for what the page has another place for: maps, graphs, and the table of sinks."""
    return not (
        is_map(result)
        or is_word_map(result)
        or _lists_sinks(result)
        or (result.kind == "edges" and len(result.frame))
    )


def _lists_sinks(result: Result) -> bool:
    """True for a result of `headwise.analyses.sinks` that found some."""
    known = {"offset", "token", "role", "peak_layer", "peak_received", "heads"}
    return result.name == "sinks" and known <= set(result.frame) and len(result.frame) > 0


def _analysed(
    calls: Sequence[AnalysisCall],
    trace: Trace,
    after: Trace | None = None,
    subject: Subject | None = None,
    examples: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[list[Result], list[str]]:
    """What the analyses find, and why some find nothing; each takes what it is for."""
    sources = {
        "trace": [trace],
        "pair": [trace, after] if after is not None else [trace],
        "subject": [subject, examples] if subject is not None and examples else [],
    }
    results, failures = [], {}
    for call in calls:
        try:
            results.append(call(*sources[call.analysis.inputs]))
        except (CaptureError, InputError) as error:
            failures[said(call.analysis.name)] = error
    if failures and not results:
        raise next(iter(failures.values()))
    return results, [f"No {name}: {error}" for name, error in failures.items()]


def _maps_of_results(
    results: Sequence[Result], calls: Sequence[AnalysisCall], after: Trace | None
) -> list[HeadMap]:
    changed: dict[str, Result] = {}
    if after is not None:
        alone = [call for call in calls if call.analysis.inputs == "trace"]
        changed = {result.name: result for result in _analysed(alone, after)[0]}
    metrics = [metric for result in results for metric in maps_of(result, changed.get(result.name))]
    seen: dict[str, int] = {}
    for place, metric in enumerate(metrics):
        seen[metric.key] = number = seen.get(metric.key, 0) + 1
        if number > 1:  # of another capture, or under other parameters
            metrics[place] = replace(metric, key=f"{metric.key}_{number}", title=f"{metric.title} ({number})")
    return metrics


def _with_heads(
    content: Content,
    inputs: ReportInputs,
    shares: KeyShares,
    keys: Mapping[Site, Bool[torch.Tensor, "example key"]],
    metrics: list[HeadMap],
    subject: Subject | None,
    examples: Sequence[Mapping[str, Any]] | None,
) -> tuple[Content, list[HeadMap]]:
    """The content with what only a trace can say: heads, patterns, examples."""
    trace, after, runs = inputs.before, inputs.after, inputs.runs
    assert trace is not None
    thumbnails = runs.before.thumbnails if runs else pattern_thumbnails(trace, keys)
    changed = _changed_thumbnails(after, runs)
    metrics = [strongest_keys(shares, key_shares(after) if after is not None else None), *metrics]
    if thumbnails is not None and any(key.any() for key in keys.values()):
        place = next((i + 1 for i, metric in enumerate(metrics) if metric.key == "entropy"), len(metrics))
        metrics.insert(
            place, without_sinks(thumbnails.entropy_without, changed.entropy_without if changed else None)
        )
    shown = examples_of(trace, shares, thumbnails, keys, runs.before.last if runs else ())
    given = runs.given if runs else tuple(examples or ())
    if given and len(given) != trace.examples:
        raise InputError(
            "The examples are not those of the trace.",
            evidence=f"{len(given)} given, {trace.examples} in the trace",
            remedy="Give one mapping per example, in the order of the trace, or leave examples= out.",
        )
    shown = _with_media(
        shown, trace, shares, given, runs.prepared if runs else _prepared(given, subject), subject, runs
    )
    groups = groups_of(trace, shares, thumbnails, metrics)
    content = replace(content, warnings=(*content.warnings, *partly_drawn(trace, thumbnails)))
    return replace(content, groups=groups, examples=shown, averaged=trace.examples), metrics


def _changed_thumbnails(after: Trace | None, runs: ExampleRuns | None) -> PatternThumbnails | None:
    if runs is not None:
        return runs.after.thumbnails if runs.after else None
    if after is None:
        return None
    return pattern_thumbnails(after, sink_keys(after, sinks_of(after)))


def _remarks(comparison: Comparison) -> list[str]:
    return comparison.manifest.get("notes", {}).get("warnings", [])


def _prepared(given: Sequence[Mapping[str, Any]], subject: Subject | None) -> list[Mapping[str, Any] | None]:
    return [prepare_example(subject, example).batch if subject is not None else None for example in given]


def _with_media(
    shown: Sequence[ShownExample],
    trace: Trace,
    shares: KeyShares,
    given: Sequence[Mapping[str, Any]],
    prepared: Sequence[Mapping[str, Any] | None],
    subject: Subject | None,
    runs: ExampleRuns | None,
) -> tuple[ShownExample, ...]:
    """Pictures, sound and replies, where it is known what the examples were made of."""
    found = {example.number: example for example in shown}
    for number, (inputs, tensors) in enumerate(zip(given[:MOST_EXAMPLES], prepared, strict=False)):
        known = found.get(number, ShownExample(number))
        sound = sound_of(inputs, window_start(trace, number))
        found[number] = replace(
            known,
            matrix=trimmed(known.matrix, sound.seconds) if sound else known.matrix,
            picture=picture_of(trace, shares, number, inputs, tensors, subject),
            sound=sound,
            reply=runs.before.replies[number] if runs else None,
            reply_after=runs.after.replies[number] if runs and runs.after else None,
        )
    return tuple(found[number] for number in sorted(found))


def _verdict(
    by_name: Mapping[str, Result],
    results: Sequence[Result],
    comparisons: Sequence[Comparison],
    named: int | None,
) -> tuple[str, ...]:
    """Three sentences: what the fix did where one was compared, then what was found; all of it, where it was named."""
    spoken = [item.summary for item in comparisons]
    found = [by_name[name].summary for name in SPOKEN if name in by_name] if named is None else []
    spoken += found or [result.summary for result in results]
    return tuple(
        shortened(sentence) for sentence in spoken[: len(comparisons) + max(3 - len(comparisons), named or 1)]
    )


def _mixed(results: Sequence[Result]) -> list[str]:
    runs = {(result.provenance.get("model"), result.provenance.get("created")) for result in results}
    return (
        ["These results come from several captures; the provenance is that of the first."]
        if len(runs) > 1
        else []
    )


def _cut_off(trace: Trace | None) -> list[str]:
    """What the page leaves out of what was captured."""
    if trace is None or trace.examples <= MOST_EXAMPLES:
        return []
    return [
        f"The first {MOST_EXAMPLES} of {trace.examples} examples are shown one by one; numbers are over all of them."
    ]
