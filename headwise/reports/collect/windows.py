"""Windows of long recordings, as the examples that a report shows: each with its own stretch of sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwise.subject.sounds import read_waves, window_samples

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject
    from headwise.subject.generation import Generation


def windows_of(
    subject: Subject,
    given: Sequence[Mapping[str, Any]],
    asked: Sequence[Generation],
    trace: Trace,
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """What each example of the trace was given, and the tensors of it; a window has its part of the sound.

    Args:
        subject: the model with its processor.
        given: what the user gave, a recording perhaps.
        asked: what was made of it.
        trace: of all of it; a recording is as many of its examples as the model went through windows.
    """
    if len(given) == trace.examples:
        return [(one, other.inputs) for one, other in zip(given, asked, strict=True)]
    axis = trace.layout.axes.get("encoder")
    offsets = None if axis is None else axis.offset
    recordings = None if axis is None else axis.recording
    shown = []
    for number in range(trace.examples):
        at = 0 if recordings is None or len(given) == 1 else int(recordings[number])
        example, inputs = given[min(at, len(given) - 1)], asked[min(at, len(given) - 1)].inputs
        if offsets is not None and example.get("audio") is not None:
            example = _window(subject, example, float(offsets[number]))
        shown.append((example, inputs))
    return shown


def window_start(trace: Trace, number: int) -> float:
    """The second of its recording at which the sound of an example begins."""
    axis = trace.layout.axes.get("encoder")
    return 0.0 if axis is None or axis.offset is None else float(axis.offset[number])


def _window(subject: Subject, example: Mapping[str, Any], second: float) -> Mapping[str, Any]:
    """The example with the stretch of its sound that begins at a second."""
    (wave,), rate = read_waves(subject, [example["audio"]])
    start = round(second * rate)
    length = window_samples(subject)
    return {**example, "audio": (wave[start : None if length is None else start + length], rate)}
