"""Training-free changes to what attention does, installed with `hw.patch`.

A fix is a frozen value with a pure `edit(pattern, site, context)`, `scale(z, site, context)`, or one of the other
steps of `headwise.probes.context.Fix`. Installing and removing is done elsewhere, once.
"""

from headwise.fixes.act import ACT
from headwise.fixes.mask_keys import MaskKeys
from headwise.fixes.registry import get, names
from headwise.fixes.replace import Replace
from headwise.fixes.scale_heads import ScaleHeads, ZeroHeads
from headwise.fixes.set_rows import SetRows
from headwise.fixes.var import VAR
from headwise.fixes.vhr import VHR
from headwise.probes.context import Context, Fix

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
