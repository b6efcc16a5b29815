"""A fix for models that see: more weight on the keys of the image."""

from __future__ import annotations

from dataclasses import dataclass

import headwise as hw


@dataclass(frozen=True)
class ImageLift:
    """Weight on image keys times `factor`; every row keeps its sum."""

    factor: float = 2.0
    needs = frozenset({"image"})

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise hw.FixError("The factor must be above 0.", evidence=f"got {self.factor}")

    @property
    def neutral(self) -> bool:
        return self.factor == 1.0

    def edit(self, pattern, site, context):
        image = context.keys_with_role("image", pattern)[:, None, None]
        lifted = pattern.where(~image, pattern * self.factor)
        return lifted * (pattern.sum(-1, keepdim=True) / lifted.sum(-1, keepdim=True).clamp_min(1e-12))
