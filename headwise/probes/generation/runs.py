"""Runs of a thread: the owner of a cache, and the one that goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from headwise.probes.generation.beams import UNDECIDED
from headwise.probes.generation.forward_inputs import extends
from headwise.probes.generation.generate_call import DecodingLoop, GenerateCall
from headwise.probes.generation.generation import Generation


def owner_of(runs: Sequence[Generation], cache: Any) -> Generation | None:
    """The run that a key-value cache belongs to; it belongs to one at a time."""
    return next((run for run in reversed(runs) if run.owns(cache)), None)


def hand_over(runs: Sequence[Generation], cache: Any, run: Generation) -> None:
    """Makes a cache that of a run; the run that it was used for before is over."""
    if not run.owns(cache):
        before = owner_of(runs, cache)
        if before is not None:
            before.set_cache(None)
        run.set_cache(cache)


def cached_run(runs: Sequence[Generation], cache: Any, past: int) -> Generation | None:
    """The run that a forward behind `past` cached positions continues; None where it begins one.

    A cache that was cropped to where its run began, or into the prompt of a call of `generate` that is over, is used
    for another prompt.
    """
    owner = owner_of(runs, cache)
    if owner is None or not owner.cached_before < past <= owner.length:
        return None
    return None if owner.complete and past < owner.prompt else owner


def uncached_run(
    runs: Sequence[Generation], run: Generation, ids: Any, loop: DecodingLoop | None
) -> Generation | None:
    """The run whose sequence a forward without a cache reads again, longer; None where it begins one.

    Args:
        runs: those of the thread.
        run: the one of the forward before.
        ids: what the forward was given.
        loop: the loop of `generate` under way, which may decode several sequences in turn.
    """
    others = [other for other in runs if loop is not None and other.loop is loop and other is not run]
    before = sorted((run, *others), key=lambda other: other.branch)
    return next((other for other in before if extends(ids, other.ids)), None)


def remarks_on(runs: Sequence[Generation]) -> list[str]:
    """Remarks for a reader of the records of some runs."""
    undecided = any(run.search is not None and not run.search.known for run in runs)
    cropped = sum(run.cropped for run in runs)
    apart = dict.fromkeys(str(site) for run in runs for site, buffer in run.buffers.items() if buffer.apart)
    remarks = [UNDECIDED] * undecided
    if cropped:
        remarks.append(
            f"{cropped} positions of prompts were read and then cropped from the cache: they are not in the records. "
            "To keep several prompts that begin alike, give each a copy of the cache (copy.deepcopy)."
        )
    if apart:
        remarks.append(
            f"The residual of {len(apart)} sites, first {next(iter(apart))}, is left out: attention has other rows, "
            "of windows or of learned queries. Keep it alone: hw.capture(..., stats=False, residual=True)."
        )
    return remarks


def goes_on(run: Generation, call: GenerateCall | None) -> bool:
    """True while a run may be continued: its cache exists, or the loop that decodes it is under way."""
    while call is not None and not run.alive:
        if call.loop is not None and run.loop is call.loop:
            return True
        call = call.outer
    return run.alive


def drop_attempts(runs: Iterable[Generation]) -> None:
    """Notes which windows were read again, at a higher temperature: what was written first was thrown away."""
    later: set[tuple[int, float]] = set()
    for run in reversed(list(runs)):
        if later & set(run.windows):
            run.kept_examples = torch.tensor(
                [row for row, window in enumerate(run.windows) if window not in later]
            )
        later |= set(run.windows)


def join(runs: Sequence[Generation], run: Generation, call: GenerateCall, *, keep: bool) -> None:
    """Has a run decoded by the loop of `generate` that is under way; with `keep`, its beams are followed."""
    run.call, run.loop = call, call.loop
    if call.loop is None:
        return
    loops = [loop for loop in (call.loop, call.within and call.within.loop) if loop is not None]
    others = any(other.loop in loops and other is not run for other in runs)
    run.branch = call.accepted is not None or others
    beams = getattr(call.loop.config, "num_beams", None) or 1
    if keep and beams > 1 and not run.branch:
        call.loop.checks.append(run.search_beams(beams))
