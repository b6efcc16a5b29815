"""The positions of one tower, and of all towers of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from headwise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ROLES = (
    "bos",
    "first",
    "eos",
    "special",
    "language",
    "task",
    "punctuation",
    "content",
    "image",
    "audio",
    "silence",
    "padding",
    "generated",
    "cached",
)
"""Every role a position can have.

`first` is the token that a text begins with where nothing marks its beginning (no BOS): attention sinks sit there, too.
`silence` is what fills the window of an encoder behind the end of a sound and is attended to like sound (Whisper).
`cached` marks keys that were in the cache before the capture began.
"""

MODALITIES = {"image": "image", "audio": "audio", "silence": "silence", "padding": "padding"}
"""Modality of a role; roles that are not listed are `text`."""


def role_groups(by: str, roles: Iterable[str] = ROLES) -> dict[str, list[int]]:
    """Places in `ROLES` of each role, or of each modality.

    Args:
        by: `"role"` or `"modality"`.
        roles: those that are wanted.

    Example:
        >>> role_groups("modality", ("bos", "image", "content"))
        {'text': [0, 7], 'image': [8]}
    """
    groups: dict[str, list[int]] = {}
    for role in roles:
        groups.setdefault(role if by == "role" else MODALITIES.get(role, "text"), []).append(
            ROLES.index(role)
        )
    return groups


@dataclass(frozen=True)
class ImageSpan:
    """A run of positions that hold one image, in raster order unless `places` says otherwise."""

    example: int
    image: int
    start: int
    length: int
    grid: tuple[int, int] | None = None
    """Rows and columns of the image's tokens; None where tokens have no place (Q-Former queries)."""
    places: tuple[int, ...] | None = None
    """Place of every position in raster order, where the tower has an order of its own (windows)."""


@dataclass(frozen=True)
class Axis:
    """The positions of one tower, for every example of a batch."""

    tower: str
    roles: UInt8[Tensor, "example position"]
    """Indices into `ROLES`."""
    ids: Int[Tensor, "example position"] | None = None
    """Token ids; None where positions are not tokens."""
    tokens: tuple[tuple[str, ...], ...] | None = None
    """Text of every position; None until asked for."""
    images: tuple[ImageSpan, ...] = ()
    seconds: Float[Tensor, "position 2"] | None = None
    """Start and end of audio positions, in seconds."""
    offset: Float[Tensor, " example"] | None = None
    """Second of its recording at which the window of an example begins; None where every example is a whole one."""
    recording: Int[Tensor, " example"] | None = None
    """Which recording of the input an example is a window of; None where every example is a whole one."""

    @property
    def valid(self) -> Bool[Tensor, "example position"]:
        """True where a position is not padding."""
        return self.roles != ROLES.index("padding")

    def repeat(self, times: int) -> Axis:
        """The axis with `times` copies of every example side by side, as beams stand."""
        if times == 1:
            return self
        wide = self.select(torch.arange(len(self.roles)).repeat_interleave(times))
        images = tuple(
            replace(span, example=span.example * times + copy)
            for span in self.images
            for copy in range(times)
        )
        return replace(wide, images=images)

    def select(self, index: Int[Tensor, " example"]) -> Axis:
        """The axis whose example b is example `index[b]` of this one."""
        rows = index.tolist()
        spans = tuple(
            replace(span, example=new)
            for new, old in enumerate(rows)
            for span in self.images
            if span.example == old
        )
        return replace(
            self,
            roles=self.roles[rows],
            ids=None if self.ids is None else self.ids[rows],
            tokens=None if self.tokens is None else tuple(self.tokens[row] for row in rows),
            images=spans,
            offset=None if self.offset is None else self.offset[rows],
            recording=None if self.recording is None else self.recording[rows],
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per example and position; see `TokenLayout.to_frame`."""
        import pandas as pd

        examples, positions = self.roles.shape
        example = torch.arange(examples).repeat_interleave(positions)
        frame = pd.DataFrame(
            {
                "tower": self.tower,
                "example": example.numpy(),
                "position": torch.arange(positions).repeat(examples).numpy(),
                "role": [ROLES[role] for role in self.roles.flatten().tolist()],
            }
        )
        if self.tokens is not None:
            frame["token"] = [token for row in self.tokens for token in row]
        if self.ids is not None:
            frame["id"] = self.ids.flatten().cpu().numpy()
        looks = self.tower in ("vision", "qformer")
        frame["modality"] = [MODALITIES.get(role, "image" if looks else "text") for role in frame["role"]]
        if self.images:
            place = pd.DataFrame(self._places(), columns=["example", "position", "image", "row", "column"])
            place = place.astype("Int64").astype({"example": "int64", "position": "int64"})
            frame = frame.merge(place, on=["example", "position"], how="left")
        if self.seconds is not None:
            begin = torch.zeros(examples) if self.offset is None else self.offset
            seconds = (self.seconds + begin[:, None, None]).flatten(0, 1).numpy()
            frame["start_seconds"], frame["end_seconds"] = seconds[:, 0], seconds[:, 1]
        if self.recording is not None:
            frame["recording"] = self.recording.repeat_interleave(positions).numpy()
        return frame

    def _places(self) -> list[tuple[int, int, int, int | None, int | None]]:
        places = []
        for span in self.images:
            for k in range(span.length):
                place = k if span.places is None else span.places[k]
                row, column = divmod(place, span.grid[1]) if span.grid else (None, None)
                places.append((span.example, span.start + k, span.image, row, column))
        return places


@dataclass(frozen=True)
class TokenLayout:
    """One `Axis` per tower of the model."""

    axes: Mapping[str, Axis] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per tower, example and position.

        Columns: tower, example, position, token, id, role, modality, image, row, column, start_seconds,
        end_seconds (of the recording) and, for windows of long recordings, recording. What a tower does not have (the
        token of a patch, the second of a word) is missing.

        Example:
            >>> axis = generic_axis("vision", 1, 2)
            >>> TokenLayout({"vision": axis}).to_frame()[["position", "role", "modality"]]
               position   role modality
            0         0  image    image
            1         1  image    image
        """
        import pandas as pd

        columns = [
            "tower",
            "example",
            "position",
            "token",
            "id",
            "role",
            "modality",
            "image",
            "row",
            "column",
        ]
        columns += ["start_seconds", "end_seconds"]
        if any(axis.recording is not None for axis in self.axes.values()):
            columns.append("recording")
        frames = [axis.to_frame() for axis in self.axes.values()]
        if not frames:
            return pd.DataFrame(columns=columns)
        return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def generic_axis(
    tower: str,
    examples: int,
    positions: int,
    valid: Bool[Tensor, "example position"] | None = None,
    *,
    sound: bool = False,
) -> Axis:
    """An axis of which nothing is known but its size.

    Args:
        tower: its positions are `image` in "vision" and "qformer", else `content`.
        examples: number of examples.
        positions: number of positions.
        valid: False where a position is padding.
        sound: positions are `audio` (the encoder of a speech model).

    Example:
        >>> axis = generic_axis("text", 1, 3, valid=torch.tensor([[False, True, True]]))
        >>> [ROLES[role] for role in axis.roles[0]]
        ['padding', 'content', 'content']
    """
    role = "audio" if sound else "image" if tower in ("vision", "qformer") else "content"
    roles = torch.full((examples, positions), ROLES.index(role), dtype=torch.uint8)
    if valid is not None:
        roles[~valid.bool().cpu()] = ROLES.index("padding")
    return Axis(tower, roles)


def extend(
    axis: Axis, ids: Int[Tensor, "example new"], padding: Bool[Tensor, "example new"] | None = None
) -> Axis:
    """The axis with the tokens of decode steps behind it, role `generated`.

    Args:
        axis: what was known before the steps.
        ids: the new tokens.
        padding: True where an example had already ended.

    Raises:
        InputError: `ids` has another number of examples than the axis (beams: repeat the axis first).

    Example:
        >>> longer = extend(generic_axis("text", 1, 2), torch.tensor([[7]]))
        >>> [ROLES[role] for role in longer.roles[0]]
        ['content', 'content', 'generated']
    """
    if len(ids) != len(axis.roles):
        raise InputError(
            "The new tokens and the layout have different numbers of examples.",
            evidence=f"{len(ids)} and {len(axis.roles)}",
        )
    ids = ids.cpu()
    roles = torch.full(ids.shape, ROLES.index("generated"), dtype=torch.uint8)
    if padding is not None:
        roles[padding.cpu()] = ROLES.index("padding")
    known = None if axis.ids is None else torch.cat([axis.ids, ids], dim=1)
    return replace(axis, roles=torch.cat([axis.roles, roles], dim=1), ids=known, tokens=None)
