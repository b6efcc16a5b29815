"""Around every command: quiet libraries, progress on a terminal, and errors in one line."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

import typer

from headwise.errors import HeadwiseError, HeadwiseWarning
from headwise.text import visible

BAD_INPUT, FAILED = 2, 1


@contextlib.contextmanager
def session(*, debug: bool) -> Iterator[None]:
    """Turn exceptions into one line on stderr and an exit status; keep stdout for the command's own answer.

    HeadwiseError is bad input, status 2. Anything else was not foreseen, status 1. With `debug` nothing is
    caught. Ctrl-C ends every command alike, quietly and with status 130.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", HeadwiseWarning)
            warnings.showwarning = lambda message, *_, **__: typer.echo(
                visible(f"warning: {message}"), err=True
            )
            yield
    except typer.Exit:
        raise
    except HeadwiseError as error:
        if debug:
            raise
        _complain(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except Exception as error:
        if isinstance(
            error.__cause__, KeyboardInterrupt
        ):  # what a command within the command makes of Ctrl-C
            raise KeyboardInterrupt from error
        if debug:
            raise
        _complain(f"{type(error).__name__}: {error}. Nobody foresaw this; add --debug to see the traceback.")
        raise typer.Exit(FAILED) from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no log lines of transformers and huggingface_hub inside the block."""
    import logging

    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as transformers

    before, hub_before, bars = (
        transformers.get_verbosity(),
        hub.get_verbosity(),
        transformers.is_progress_bar_enabled(),
    )
    transformers.set_verbosity(logging.CRITICAL)
    hub.set_verbosity(logging.CRITICAL)
    transformers.disable_progress_bar()
    try:
        yield
    finally:
        transformers.set_verbosity(before)
        hub.set_verbosity(hub_before)
        if bars:
            transformers.enable_progress_bar()


@contextlib.contextmanager
def progress(description: str, *, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr while the block runs, if that is a terminal; calling the value advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextlib.contextmanager
def progress_count(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr that is told how many are done, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _complain(message: str) -> None:
    typer.echo(f"error: {visible(' '.join(message.split()), limit=1000)}", err=True)
