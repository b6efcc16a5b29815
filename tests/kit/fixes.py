"""One instance of every fix that headwise registers, for the checks of `headwise.testing` and for other tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from headwise import fixes

MODELS = ("gpt2", "llama", "gemma2", "bert")
SEEING = ("llava",)
"""Models for fixes that need an image in the prompt."""


def models_of(fix: str) -> tuple[str, ...]:
    """The models that a fix is tested on."""
    return SEEING if "image" in getattr(fixes.get(fix), "needs", ()) else MODELS


def _replacement(shift: int) -> fixes.Replace:
    value = torch.zeros(1, 20, 4, 8)
    value[:, 5 + shift] = torch.randn(4, 8, generator=torch.Generator().manual_seed(7))
    return fixes.Replace(quantity="z", layer=1, value=value, heads=(1, 2), positions=(5 + shift,))


FIXES: dict[str, Callable[[int], Any]] = {
    "act": lambda shift: fixes.ACT(heads=((0, 1), (1, 0), (1, 3)), alpha=1.5, min_rows=2),
    "mask_keys": lambda shift: fixes.MaskKeys(keys=(2 + shift, 4 + shift)),
    "replace": _replacement,
    "scale_heads": lambda shift: fixes.ScaleHeads(heads=((0, 1), (1, 3)), factor=0.3),
    "set_rows": lambda shift: fixes.SetRows(heads=((1, 0), (1, 2)), row=-1, weights={3 + shift: 1.0}),
    "var": lambda shift: fixes.VAR(sink_dims=(3, 5), tau=1.5, layers=(0, 1), rho=0.3),
    "vhr": lambda shift: fixes.VHR(layers=(0, 1)),
    "zero_heads": lambda shift: fixes.ZeroHeads(heads=((0, 0), (1, 2))),
}
"""One instance of every fix that headwise registers, its positions moved to the right by `shift`."""

NEUTRAL: dict[str, Any] = {
    "act": fixes.ACT(heads=((0, 1),), beta=1.0),
    "mask_keys": fixes.MaskKeys(keys=()),
    "replace": fixes.Replace(quantity="z", layer=1, value=torch.zeros(1, 20, 4, 8), heads=()),
    "scale_heads": fixes.ScaleHeads(heads=((0, 1),), factor=1.0),
    "set_rows": fixes.SetRows(heads=(), row=-1, weights={0: 1.0}),
    "var": fixes.VAR(sink_dims=(3,), p=0.0),
    "vhr": fixes.VHR(alpha=1.0),
    "zero_heads": fixes.ZeroHeads(heads=()),
}
"""Every fix at the strength that changes nothing."""
