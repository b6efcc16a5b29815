"""Windows of long sounds: which recording every window is of, and where in it the window begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from headwise.layout import Axis

PROGRESS = "monitor_progress"
"""Argument of a `generate` that reads long sounds window by window: it is called before every window with the frame
reached in every recording, and the frames there are."""


class SoundWindows:
    """Progress of a call of `generate` through the recordings that it was given."""

    def __init__(self, asked: Callable[[Tensor], Any] | None, copies: int) -> None:
        self._asked, self._copies = asked, copies
        self._active = torch.empty(0, dtype=torch.long)
        self._frames = torch.empty(0, 2)
        self._first: Tensor | None = None
        self._long = False
        self.read: tuple[tuple[int, float], ...] = ()
        """Row of the call and second of every window that was read last; empty where that is not known."""

    def __call__(self, progress: Tensor) -> None:
        """A window begins: frame reached and frames there are, (recording, 2)."""
        state = progress.detach().cpu()
        self._active = (state[:, 0] < state[:, 1]).nonzero()[:, 0]
        self._frames, self._first = state, None
        if self._asked is not None:
            self._asked(progress)

    @property
    def recordings(self) -> int:
        """Recordings that it read window by window."""
        return len(self._frames) // self._copies if self._long else 0

    def windowed(
        self, axes: Mapping[str, Axis], inputs: Mapping[str, Any], *, before: int
    ) -> dict[str, Axis]:
        """Axes that know recording and offset, where a window of a long sound is read.

        Recordings are numbered from `before`, the number of those that earlier calls have read.
        """
        self.read = ()
        features, axis = inputs.get("input_features"), axes.get("encoder")
        if not isinstance(features, Tensor) or axis is None or axis.seconds is None or not len(self._active):
            return dict(axes)
        frames = features.shape[-1]
        self._long = self._long or bool((self._frames[:, 0] > 0).any() or (self._frames[:, 1] > frames).any())
        rows = self._rows_of(features)
        if rows is None or len(rows) != len(axis.roles):
            return dict(axes)
        offset = self._frames[rows, 0].float() * float(axis.seconds[-1, 1]) / frames
        self.read = tuple(zip(rows.tolist(), offset.tolist(), strict=True))
        if not self._long:
            return dict(axes)
        return {**axes, "encoder": replace(axis, offset=offset, recording=before + rows // self._copies)}

    def _rows_of(self, features: Tensor) -> Tensor | None:
        """The recording of every row: all that have not ended, or, where some are read again, those that look alike."""
        if self._first is None and len(features) == len(self._active):
            self._first = features.detach()
        if self._first is None:
            return None
        if len(features) == len(self._active):
            return self._active
        left = (features[:, None] == self._first[None]).flatten(2).all(-1).cpu()
        chosen = []
        for row in left:  # in their order; of equal sounds each is taken once
            if not bool(row.any()):
                return None
            chosen.append(int(row.int().argmax()))
            left[:, chosen[-1]] = False
        return self._active[chosen]
