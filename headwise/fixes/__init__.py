"""Training-free changes to what attention does, installed with `hw.patch`.

A fix is a frozen value with a pure `edit(pattern, site, context)`, `scale(z, site, context)`, or one of the other
steps of `headwise.probes.context.Fix`. Installing and removing is done elsewhere, once. A fix of another package is
`hw.fixes.NAME` by its registered name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.fixes.edits.mask_keys import MaskKeys
    from headwise.fixes.edits.replace import Replace
    from headwise.fixes.edits.scale_heads import ScaleHeads, ZeroHeads
    from headwise.fixes.edits.set_rows import SetRows
    from headwise.fixes.methods.act import ACT
    from headwise.fixes.methods.var import VAR
    from headwise.fixes.methods.vhr import VHR
    from headwise.fixes.registry import get, names
    from headwise.probes.context import Context, Fix

_HOMES = {
    "ACT": "headwise.fixes.methods.act",
    "VAR": "headwise.fixes.methods.var",
    "VHR": "headwise.fixes.methods.vhr",
    "Context": "headwise.probes.context",
    "Fix": "headwise.probes.context",
    "MaskKeys": "headwise.fixes.edits.mask_keys",
    "Replace": "headwise.fixes.edits.replace",
    "ScaleHeads": "headwise.fixes.edits.scale_heads",
    "SetRows": "headwise.fixes.edits.set_rows",
    "ZeroHeads": "headwise.fixes.edits.scale_heads",
    "get": "headwise.fixes.registry",
    "names": "headwise.fixes.registry",
}

__all__ = [
    "ACT",
    "VAR",
    "VHR",
    "Context",
    "Fix",
    "MaskKeys",
    "Replace",
    "ScaleHeads",
    "SetRows",
    "ZeroHeads",
    "get",
    "names",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    from headwise.fixes.registry import FIXES
    from headwise.plugins import unknown_attribute

    if name.startswith("_") or name not in FIXES.names():
        raise unknown_attribute(__name__, name, [*_HOMES, *FIXES.names()])
    return FIXES.get(name)


def __dir__() -> list[str]:
    from headwise.fixes.registry import FIXES

    return sorted({*__all__, *FIXES.names()})
