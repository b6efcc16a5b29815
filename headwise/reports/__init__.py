"""Reports: data (`data`), figures (`figures`) and page (`page`) are separate steps; `report` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.analyses import Result
    from headwise.probes.trace import Trace
    from headwise.subject import Subject

__all__ = ["report"]


def report(
    source: Trace | Result | Sequence[Result],
    path: str | Path,
    *,
    subject: Subject | None = None,
    title: str | None = None,
    call: str | None = None,
    command: str | None = None,
) -> Path:
    """Write one self-contained HTML file that says what the heads did; it opens without a network.

    Args:
        source: a trace, on which the first analyses are run (sinks, sink rate, entropy, mass per role,
            distance); or one result, or a list of them.
        path: the file to write.
        subject: adds the number of parameters to the provenance.
        title: the heading; without it, the name of the model.
        call: Python that makes this report; without it, the call that the trace recorded.
        command: the command line that makes this report.

    Returns:
        The path that was written. The file appears whole or not at all.

    Raises:
        InputError: when the folder of `path` does not exist, or the source is something else.
        CaptureError: when no analysis can be run on the trace.

    Example:
        >>> import tempfile
        >>> import headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)
        >>> subject = hw.wrap(GPT2LMHeadModel(config).eval())
        >>> with hw.capture(subject) as trace:
        ...     _ = subject.model(**subject.prepare(text=[1, 2, 3, 4, 5]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report(trace, Path(folder) / "report.html").stat().st_size < 6e6
        True
    """
    from headwise.reports.data import gather
    from headwise.reports.page import write_page

    content = gather(source, subject=subject, title=title, call=call, command=command)
    return write_page(content, path)
