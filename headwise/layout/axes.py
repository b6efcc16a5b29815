"""The positions of one stack, and of all stacks of a model."""

from __future__ import annotations

from collections.abc import Mapping
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
    "eos",
    "special",
    "language",
    "task",
    "punctuation",
    "content",
    "image",
    "audio",
    "padding",
    "generated",
    "cached",
)
"""Every role a position can have. `cached` marks keys that were in the cache before the capture began."""

MODALITIES = {"image": "image", "audio": "audio", "padding": "padding"}
"""Modality of a role; roles that are not listed are `text`."""


@dataclass(frozen=True)
class ImageSpan:
    """A run of positions that hold one image, in raster order."""

    example: int
    image: int
    start: int
    length: int
    grid: tuple[int, int] | None = None
    """Rows and columns of the image's tokens; None where tokens have no place (Q-Former queries)."""


@dataclass(frozen=True)
class Axis:
    """The positions of one stack, for every example of a batch."""

    stack: str
    roles: UInt8[Tensor, "example position"]
    """Indices into `ROLES`."""
    ids: Int[Tensor, "example position"] | None = None
    """Token ids; None where positions are not tokens."""
    tokens: tuple[tuple[str, ...], ...] | None = None
    """Text of every position; None until asked for."""
    images: tuple[ImageSpan, ...] = ()
    seconds: Float[Tensor, "position 2"] | None = None
    """Start and end of audio positions, in seconds."""

    @property
    def valid(self) -> Bool[Tensor, "example position"]:
        """True where a position is not padding."""
        return self.roles != ROLES.index("padding")

    def to_frame(self) -> pd.DataFrame:
        """One row per example and position; see `TokenLayout.to_frame`."""
        import pandas as pd

        examples, positions = self.roles.shape
        example = torch.arange(examples).repeat_interleave(positions)
        frame = pd.DataFrame(
            {
                "stack": self.stack,
                "example": example.numpy(),
                "position": torch.arange(positions).repeat(examples).numpy(),
                "role": [ROLES[role] for role in self.roles.flatten().tolist()],
            }
        )
        if self.tokens is not None:
            frame["token"] = [token for row in self.tokens for token in row]
        if self.ids is not None:
            frame["id"] = self.ids.flatten().cpu().numpy()
        looks = self.stack in ("vision", "qformer")
        frame["modality"] = [MODALITIES.get(role, "image" if looks else "text") for role in frame["role"]]
        if self.images:
            place = pd.DataFrame(self._places(), columns=["example", "position", "image", "row", "column"])
            place = place.astype("Int64").astype({"example": "int64", "position": "int64"})
            frame = frame.merge(place, on=["example", "position"], how="left")
        if self.seconds is not None:
            seconds = self.seconds.repeat(examples, 1).numpy()
            frame["start_seconds"], frame["end_seconds"] = seconds[:, 0], seconds[:, 1]
        return frame

    def _places(self) -> list[tuple[int, int, int, int | None, int | None]]:
        places = []
        for span in self.images:
            for k in range(span.length):
                row, column = divmod(k, span.grid[1]) if span.grid else (None, None)
                places.append((span.example, span.start + k, span.image, row, column))
        return places


@dataclass(frozen=True)
class TokenLayout:
    """One `Axis` per stack of the model."""

    axes: Mapping[str, Axis] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per stack, example and position.

        Columns: stack, example, position, token, id, role, modality, image, row, column, start_seconds and
        end_seconds. What a stack does not have (the token of a patch, the second of a word) is missing.

        Example:
            >>> axis = generic_axis("vision", 1, 2)
            >>> TokenLayout({"vision": axis}).to_frame()[["position", "role", "modality"]]
               position   role modality
            0         0  image    image
            1         1  image    image
        """
        import pandas as pd

        columns = "stack example position token id role modality image row column start_seconds end_seconds"
        frames = [axis.to_frame() for axis in self.axes.values()]
        if not frames:
            return pd.DataFrame(columns=columns.split())
        return pd.concat(frames, ignore_index=True).reindex(columns=columns.split())


def generic_axis(
    stack: str,
    examples: int,
    positions: int,
    valid: Bool[Tensor, "example position"] | None = None,
    *,
    sound: bool = False,
) -> Axis:
    """An axis of which nothing is known but its size.

    Args:
        stack: its positions are `image` in "vision" and "qformer", else `content`.
        examples: number of examples.
        positions: number of positions.
        valid: False where a position is padding.
        sound: positions are `audio` (the encoder of a speech model).

    Example:
        >>> axis = generic_axis("text", 1, 3, valid=torch.tensor([[False, True, True]]))
        >>> [ROLES[role] for role in axis.roles[0]]
        ['padding', 'content', 'content']
    """
    role = "audio" if sound else "image" if stack in ("vision", "qformer") else "content"
    roles = torch.full((examples, positions), ROLES.index(role), dtype=torch.uint8)
    if valid is not None:
        roles[~valid.bool().cpu()] = ROLES.index("padding")
    return Axis(stack, roles)


def extend(
    axis: Axis,
    ids: Int[Tensor, "example new"],
    padding: Bool[Tensor, "example new"] | None = None,
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
