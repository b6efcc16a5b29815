"""The harness is loud, seeds everything and stops with errors of many kinds: none of it reaches the user as it is."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

import numpy as np
import torch

from headwise.errors import HeadwiseError, InputError
from headwise.model.loading import quiet

_LONG = 300
"""Characters of a foreign message that are shown."""


@contextmanager
def translate_errors(fact: str, *, remedy: str, logged: Sequence[str] = ()) -> Iterator[None]:
    """Errors of the harness become one that says what happened; those of headwise and of memory pass.

    Args:
        fact: what could not be done.
        remedy: what to do about it.
        logged: what the harness logs; the last line that came inside the block is added.

    Raises:
        InputError: with the first cause as its evidence.
    """
    before = len(logged)
    try:
        yield
    except (HeadwiseError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [f"{type(cause).__name__}: {cause}".removesuffix(": "), *logged[before:][-1:]]
        evidence = "; ".join(" ".join(line.split())[:_LONG] for line in lines)
        raise InputError(fact, evidence=evidence, remedy=remedy) from error


@contextmanager
def set_aside() -> Iterator[list[str]]:
    """Nothing that the harness prints, logs or seeds is left behind the block; its warnings are collected.

    Random states are those of Python, NumPy and torch (CPU and CUDA).
    """
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils import logging as data_logging

    warned, logger = _Warnings(), logging.getLogger("lm_eval")
    with ExitStack() as stack:
        stack.enter_context(quiet())
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))  # progress bars, which have no switch
        # its bootstrap forks a process per core unless it is told not to
        stack.enter_context(mock.patch.dict(os.environ, DISABLE_MULTIPROC="1"))
        stack.enter_context(mock.patch.multiple(logger, propagate=False, handlers=[warned]))
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)
        stack.callback(data_logging.set_verbosity, data_logging.get_verbosity())
        data_logging.set_verbosity(logging.CRITICAL)
        if not are_progress_bars_disabled():
            stack.callback(enable_progress_bars)
            disable_progress_bars()
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 (the harness seeds it)
        cards = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
        stack.enter_context(torch.random.fork_rng(devices=cards))
        yield warned.lines


class _Warnings(logging.Handler):
    """Warnings of a logger, one per place in the code that gave them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._places: set[tuple[str, int]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first of its place."""
        place = (record.pathname, record.lineno)
        if place not in self._places:
            self._places.add(place)
            self.lines.append(" ".join(record.getMessage().split()))
