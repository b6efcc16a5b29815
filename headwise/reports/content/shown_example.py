"""What a report page says of one input: its tokens, what is seen or heard, what is aligned, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headwise.reports.content.formatting import round_up

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Token:
    """One position of an example. `share` is the attention it receives, None where too few rows see it."""

    position: int
    text: str
    role: str
    share: float | None
    rest: float | None = None
    """`share` of what is left when the attention on sinks is taken away; None for a sink."""
    count: int = 1
    """Positions that it stands for: a run of image or audio positions is one token."""


@dataclass(frozen=True)
class Strip:
    """The tokens of one example on one tower; `left_out` counts tokens that are not shown."""

    tower: str
    tokens: tuple[Token, ...]
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as the model saw it, and where its positions lie."""

    image: str
    """Data URI."""
    note: str
    grid: tuple[int, int]
    group: str
    start: int
    """Position of its first token among the keys of the group."""
    shares: np.ndarray
    """(row, column), mean received attention."""
    places: Mapping[str, tuple[tuple[int, int], int]] = field(default_factory=dict)
    """Grid and first position of the image in every tower that has it: a vision tower, and the text it is read by."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A spectrogram, and the sound itself where it is short enough to be carried."""

    image: str
    """Data URI of the spectrogram: time across, frequency up, −80 to 0 dB of the loudest moment."""
    seconds: float
    hertz: float
    """The highest frequency shown."""
    audio: str | None = None
    start: float = 0.0
    """The second of its recording at which it begins: above 0 for later windows of a long one."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Cross-attention of one example, mean over layers and heads: what a row writes against what it looks at."""

    group: str
    weights: np.ndarray
    """(row, column), rows sum to the share of attention that falls on the columns shown."""
    rows: tuple[str, ...]
    """The token that every row writes, or that it reads."""
    columns: tuple[str, ...]
    first_row: int = 0
    """Position of the token that the first row is named by."""
    written: bool = False
    """Rows are named by the token that they write, the one behind the token that they read."""
    seconds: float | None = None
    """What the columns last together, where they are time."""
    beyond: float = 0.0
    """Share of the attention on columns that are not shown: the silence behind a sound."""

    @property
    def top(self) -> float:
        """The end of its colour scale."""
        return round_up(float(self.weights.max(initial=0.0))) or 1.0


@dataclass(frozen=True, eq=False)
class ShownExample:
    """One input: its tokens on every tower that reads tokens, what is seen or heard, what came out."""

    number: int
    strips: tuple[Strip, ...] = ()
    picture: Picture | None = None
    sound: Sound | None = None
    matrix: Matrix | None = None
    reply: str | None = None
    reply_after: str | None = None
