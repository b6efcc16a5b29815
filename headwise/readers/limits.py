"""How large a file from somebody else may be, and what it may turn into; one factor raises all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import NoReturn

from headwise.errors import InputError

MIB = 2**20
MOST = 1_000_000
"""The largest factor; beyond, a limit is none."""
_SAID = 10**15
"""From here on a number is not written out; a file may name one that no float holds."""


@dataclass(frozen=True)
class FileLimits:
    """The largest values that a file may have; a file beyond one of them is refused before work begins."""

    text_bytes: int = 256 * MIB
    """JSON, JSON Lines, tables of text, word lists."""
    parquet_bytes: int = 1024 * MIB
    parquet_cells: int = 20_000_000
    """Rows times columns."""
    values: int = 20_000_000
    """Values in a JSON file."""
    depth: int = 64
    """Lists and objects within each other."""
    lines: int = 100_000
    """Lines of a text: sentences, rows of a table, JSON Lines."""
    columns: int = 10_000
    line_bytes: int = 16 * MIB
    text_growth: int = 4
    """Letters of a text that is compared, for each that it has: some, such as U+FDFA, are written out as 18."""
    image_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    """Width times height."""
    image_side: int = 1_000_000
    image_parts: int = 1_000_000
    """Pieces in which a picture is read: what stands before its pixels, runs of them."""
    sound_bytes: int = 1024 * MIB
    sound_seconds: int = 3600
    sound_samples: int = 80_000_000
    """Samples of all channels, at the file's own rate; those that take long to unpack count more than once."""
    sound_codes: int = 2**20
    """Entries of the codebooks of Vorbis, each with as many values as it has dimensions, and one more."""
    yaml_bytes: int = 1 * MIB
    yaml_values: int = 100_000
    tasks: int = 256
    """Tasks and groups that task files of the harness name."""
    spec_bytes: int = 4 * MIB
    """Specs, and fixes as a command line writes them."""
    spec_values: int = 100_000
    layers: int = 256
    """Layers that the settings of a model folder ask for: they are built before the weights are looked at."""
    entries: int = 20_000
    """Of one list or object in the settings of a model folder; those of labels and of added tokens are `lines`."""
    token_letters: int = 1_000_000
    """Of the tokens that one file adds to a tokenizer."""
    tree_bytes: int = 2 * 2**20
    """Of the pieces of a Unigram, without what two of them begin with."""
    filter_values: int = 2**24
    """Samples of a window times bands, of what turns sound into features."""
    model_parts: int = 10_000
    """Tensors that are made while a model is built."""
    model_bytes: int = 64 * MIB
    """Of a model, beyond 16 times its weights; values that no file has: an eighth, or as much as them."""


_LIMITS: ContextVar[FileLimits] = ContextVar("headwise_file_limits", default=FileLimits())  # noqa: B039 (frozen)


def current_limits() -> FileLimits:
    """The limits in force here."""
    return _LIMITS.get()


@contextmanager
def file_limits(*, times: float) -> Iterator[FileLimits]:
    """Multiply every limit on files that are read in this block (and thread).

    Args:
        times: the factor, above 0 and up to a million; below 1 the limits become tighter.

    Raises:
        InputError: it is no such number.

    Example:
        >>> with file_limits(times=4) as limits:
        ...     limits.pixels
        200000000
    """
    if isinstance(times, bool) or not isinstance(times, int | float) or not 0 < times <= MOST:
        raise InputError(
            f"The factor of file limits is not a number above 0 and up to {MOST:,}.",
            evidence=f"times={times!r}",
            remedy="Give times=4.",
        )
    now = current_limits()
    raised = replace(now, **{field.name: int(getattr(now, field.name) * times) for field in fields(now)})
    token = _LIMITS.set(raised)
    try:
        yield raised
    finally:
        _LIMITS.reset(token)


def require_within(value: float, limit: float, what: str, *, where: object) -> None:
    """Refuse a number above its limit.

    Raises:
        InputError: with the number, the limit, and how to raise it.
    """
    if value > limit:
        shown = f"{value:,.0f}" if value < _SAID else f"over {_SAID:,}"
        refuse_size(f"{what}: {shown}, and the limit is {limit:,.0f}", where=where)


def refuse_size(evidence: str, *, where: object) -> NoReturn:
    """Refuse a file for its size, in one form of words.

    Raises:
        InputError: always.
    """
    raise InputError(
        "The file is larger than headwise reads from others.",
        evidence=f"{where}: {evidence}",
        remedy="If you trust it, raise the limits: with hw.file_limits(times=4) around the call, "
        "headwise --file-limits 4 before the command.",
    )
