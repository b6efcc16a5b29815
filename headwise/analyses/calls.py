"""Analyses with their parameters, as a name, a line of text, or the analysis itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from headwise.analyses.record import INPUTS, Analysis
from headwise.analyses.registry import get
from headwise.errors import InputError
from headwise.plugins import read_options, split_call
from headwise.probes.kernels.details import TOP

if TYPE_CHECKING:
    from headwise.results.result import Result


@dataclass(frozen=True)
class AnalysisCall:
    """An analysis and its parameters; called with what it takes, it gives a `Result`."""

    analysis: Analysis[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def option(self, need: str) -> Any:
        """The value of an option of `hw.capture` that gives what this call needs."""
        name = self.analysis.sizes.get(need)
        if name is None:
            return list(TOP) if need == "top" else True
        value = self.parameters.get(name, signature(self.analysis.table).parameters[name].default)
        return [value] if need == "top" else value

    def __call__(self, *sources: Any) -> Result:
        """Run it on a trace, on two of them, or on a subject with data.

        Raises:
            CaptureError: a trace lacks what it needs.
            InputError: a parameter is out of range, or it takes something else.
        """
        wanted = INPUTS[self.analysis.inputs]
        if len(sources) != len(wanted):
            raise InputError(
                f"{self.analysis.name} takes {' and '.join(wanted)}.",
                evidence=f"got {len(sources)}",
                remedy="Give two traces, or a subject and a fix: without and with the fix."
                if self.analysis.inputs == "pair"
                else "Give these, in this order.",
            )
        return self.analysis(*sources, **self.parameters)


def analysis_call(source: str | Analysis[Any] | AnalysisCall) -> AnalysisCall:
    """An analysis by name, with parameters where they are named: `"sinks"`, `"sinks:epsilon=0.2,min_rows=8"`.

    Raises:
        InputError: there is no such analysis or parameter, or a value is of the wrong kind.

    Example:
        >>> analysis_call("sinks:epsilon=0.2").parameters
        {'epsilon': 0.2}
    """
    if isinstance(source, AnalysisCall):
        return source
    if isinstance(source, Analysis):
        return AnalysisCall(source)
    if not isinstance(source, str):
        raise InputError(
            "An analysis is named, or is one of hw.analyses.",
            evidence=type(source).__name__,
            remedy='For example "entropy", or "sinks:epsilon=0.2".',
        )
    name, given = split_call(source, example="sinks:epsilon=0.2")
    analysis = get(name)
    return AnalysisCall(analysis, read_options(analysis.name, analysis.parameters, given))


def needs_of(calls: Iterable[AnalysisCall]) -> dict[str, Any]:
    """Options of `hw.capture` that give what all of these need.

    Example:
        >>> needs_of([analysis_call("top_mass:k=3"), analysis_call("top_mass"), analysis_call("rhythm:window=4")])
        {'stats': True, 'top': [3, 5], 'near': 4, 'later': True}
    """
    needs: dict[str, Any] = {}
    for call in calls:
        for need in call.analysis.needs:
            needs[need] = _enough(needs.get(need), call.option(need))
    return needs


def _enough(one: Any, other: Any) -> Any:
    """The value of an option of `hw.capture` that gives what two values give."""
    if isinstance(other, list):
        return sorted({*(one or ()), *other})
    return other if one is None else max(one, other)


def analysis_calls(sources: str | Analysis[Any] | Sequence[Any]) -> list[AnalysisCall]:
    """Several of them, or one."""
    return [analysis_call(one) for one in ([sources] if isinstance(sources, str | Analysis) else sources)]
