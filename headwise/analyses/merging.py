"""Results of several captures as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from headwise.analyses.registry import get, names
from headwise.errors import InputError
from headwise.figures.labels import counted
from headwise.results.result import Result

_SAME = ("name", "kind", "keys", "axes", "value", "unit", "description")
_MODEL = {
    "model": "model",
    "revision": "revision",
    "dtype": "dtype",
    "weights": "fingerprint of the weights",
    "patched": "fixes",
}
"""What the provenance of all must agree in, and what that is called."""


def merge(results: Sequence[Result]) -> Result:
    """One result of several shards: the examples of each stand behind those of the one before.

    The sentence is made of the whole table; that of an analysis that is not registered counts rows.

    Args:
        results: of one analysis, with the same parameters, on the same model.

    Raises:
        InputError: there are none; they are not of one kind, analysis or model, or of other weights or other fixes;
            their rows are means without a sum; an example's name occurs in two of them, or only some have names.
    """
    import pandas as pd

    results = list(results)
    if not results:
        raise InputError("There is nothing to merge.", remedy="Give the results of one analysis.")
    first = results[0]
    for other in results[1:]:
        _check_alike(first, other)
        _check_columns(first, other)
    record = get(first.name) if first.name in names() else None
    of_examples = "example" in first.keys
    if not of_examples and (record is None or record.merge is None):
        raise InputError(
            f"The rows of {first.name} are means over the examples of a capture: two such tables have no sum.",
            evidence=f"its rows are named by {', '.join(first.keys)}",
            remedy="Run the analysis on one trace with all examples.",
        )
    parts, start = [], 0
    for result in results:
        frame = result.frame
        parts.append(frame.assign(example=frame["example"] + start) if of_examples else frame)
        known = result.provenance.get("examples")
        start += max(
            known if type(known) is int else 0,
            int(frame["example"].max()) + 1 if of_examples and len(frame) else 0,
        )
    frame = pd.concat(parts, ignore_index=True)
    if record is not None and record.merge is not None:
        frame = record.merge(frame).reset_index(drop=True)
    _check_ids(parts, first.name)
    provenance = {
        **first.provenance,
        "examples": start,
        "merged": [dict(item.provenance) for item in results],
    }
    facts = {name: getattr(first, name) for name in _SAME}
    rows, shards = counted(len(frame), "row"), counted(len(results), "result")
    merged = Result(frame=frame, summary=f"{rows}, merged from {shards}.", provenance=provenance, **facts)
    if record is None:  # only its record could make the sentence
        return merged
    return replace(merged, summary=record.sentence(frame, first.provenance.get("parameters", {})))


def _check_alike(first: Result, other: Result) -> None:
    for name in _SAME:
        if getattr(first, name) != getattr(other, name):
            raise InputError(
                "These results are not of one analysis.",
                evidence=f"{name}: {getattr(first, name)!r} and {getattr(other, name)!r}",
                remedy="Merge results of one analysis with the same parameters.",
            )
    for what, one, two in _origins(first, other):
        if one != two:
            raise InputError(
                "These results do not come from the same model and parameters.",
                evidence=f"{what}: {one!r} and {two!r}",
                remedy="Put them side by side with pandas instead: pd.concat([a.frame, b.frame], keys=...).",
            )


def _origins(*results: Result) -> Iterator[tuple[str, Any, Any]]:
    """What two results must agree in, by name: parameters, and of every trace that they were made of the model."""
    one, two = (result.provenance for result in results)
    yield "parameters", one.get("parameters"), two.get("parameters")
    for suffix, traces in (
        ("", (one, two)),
        (" of what is compared", [item.get("compared_with", {}) for item in (one, two)]),
    ):
        for name, said in _MODEL.items():
            first, other = (trace.get(name) for trace in traces)
            yield f"{said}{suffix}", first, other


def _check_columns(first: Result, other: Result) -> None:
    differ = sorted(map(str, set(first.frame) ^ set(other.frame)))
    if differ:
        raise InputError(
            "The tables of these results do not have the same columns.",
            evidence=f"only some have {', '.join(differ)}",
            remedy="Capture all of them with ids=[...], or none."
            if differ == ["id"]
            else "Merge results of one version of the analysis.",
        )


def _check_ids(parts: Sequence[object], name: str) -> None:
    seen: set[object] = set()
    for part in parts:
        ids = set(part["id"].dropna()) if "id" in part else set()  # type: ignore[operator,index]
        if seen & ids:
            raise InputError(
                f"An example of {name} stands in two of these results.",
                evidence=f"id {min(map(str, seen & ids))}",
                remedy="Merge shards that share no example.",
            )
        seen |= ids
