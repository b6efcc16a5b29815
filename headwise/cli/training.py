"""The progress of a training: a bar on a terminal, a line every hundred steps elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from headwise.zoo.recipe import Recipe
from headwise.zoo.train import Show

EVERY = 100


@contextmanager
def training_bar(recipe: Recipe) -> Iterator[Show]:
    """Hand out what `train` tells its progress to."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[seen]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        tasks = {
            phase.name: bar.add_task(f"{recipe.name}: {phase.name}", total=phase.steps, seen="")
            for phase in recipe.phases
        }

        def show(phase: str, done: int, total: int, seen: Mapping[str, float]) -> None:
            bar.update(tasks[phase], completed=done, seen=_text(seen))

        yield show


def _line(phase: str, done: int, total: int, seen: Mapping[str, float]) -> None:
    if done % EVERY == 0 or done == total:
        print(f"{phase} {done}/{total} {_text(seen)}", file=sys.stderr, flush=True)


def _text(seen: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in seen.items())
