"""The viewer in notebooks: maps, patterns and examples of the report page, in a cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from headwise.errors import HeadwiseError, InputError

if TYPE_CHECKING:
    from headwise.analyses import Result
    from headwise.evaluation.results.comparison import Comparison
    from headwise.probes.trace.trace import Trace
    from headwise.reports.collect.example_runs import ExampleRuns
    from headwise.reports.notebook.widget import Viewer
    from headwise.subject import Subject

__all__ = ["view"]

WIDGET = "application/vnd.jupyter.widget-view+json"


def view(
    source: Trace | Result | Comparison | ExampleRuns | Sequence[Trace | Result | Comparison | ExampleRuns],
    *,
    subject: Subject | None = None,
    examples: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> Viewer:
    """The viewer of a trace, of results, or of two traces without and with a fix: the last value of a cell.

    Choose a head in a map or among the patterns, by mouse or with the arrow keys and Enter: its pattern and numbers
    stand beside, and the tokens and pictures of the example are shaded by it. Choosing a row of the pattern shades
    them by this row alone. Patterns are shown where the trace holds them (`maps=True`).

    The notebook keeps the numbers of the maps; patterns stay with the kernel and are sent when they are runs at.
    Where no scripts run, a static picture stands in the cell.

    Args:
        source: what `hw.report` takes, except a subject.
        subject: the model: shows images as the model saw them.
        examples: keywords of `Subject.prepare` that the trace was made of, one mapping per example: brings their
            pictures and sound.

    Raises:
        InputError: anywidget is not installed, or the source is something else or has nothing to show.
        CaptureError: no analysis can be run on the trace.
    """
    from headwise.reports.collect.build import build_content
    from headwise.reports.notebook.static import sketch
    from headwise.results.result import Result

    if not installed():
        raise InputError(
            "The viewer is a widget of anywidget, which is not installed.",
            remedy='pip install "headwise[notebook]"',
        )
    from headwise.reports.notebook.widget import Viewer

    listed = [examples] if isinstance(examples, Mapping) else examples
    content = build_content(source, subject=subject, examples=listed)
    if not content.metrics:
        raise InputError(
            "There is no map of heads to view.",
            evidence=content.verdict[0] if content.verdict else "",
            remedy="Its .plot() and .frame show everything it has.",
        )
    if isinstance(source, Result):
        return Viewer(content, source._repr_html_(), table=True)
    return Viewer(content, sketch(content.title, content.verdict[:1], content.groups, content.metrics))


def live_view(source: Result) -> dict[str, Any]:
    """The viewer of a result as a MIME type for a live notebook; nothing without one, without anywidget or maps."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None or not installed():
        return {}
    try:
        viewer = view(source)
    except HeadwiseError:
        return {}
    bundle = viewer._repr_mimebundle_()
    return {WIDGET: bundle[0][WIDGET]} if bundle else {}


def installed() -> bool:
    """Whether anywidget can be imported; does not import it."""
    return find_spec("anywidget") is not None
