"""What every position of a model's input is: its role, its text, its place in an image or in time."""

from headwise.layout.axes import (
    MODALITIES,
    ROLES,
    Axis,
    ImageSpan,
    TokenLayout,
    extend,
    generic_axis,
    role_groups,
)
from headwise.layout.describe import describe, with_tokens

__all__ = [
    "MODALITIES",
    "ROLES",
    "Axis",
    "ImageSpan",
    "TokenLayout",
    "describe",
    "extend",
    "generic_axis",
    "role_groups",
    "with_tokens",
]
