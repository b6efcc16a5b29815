"""Fixes by name: headwise's own, and those that packages add through the entry-point group `headwise.fixes`."""

from headwise.plugins import Plugins

FIXES = Plugins(
    "fix",
    "headwise.fixes",
    {
        "mask_keys": "headwise.fixes.mask_keys:MaskKeys",
        "replace": "headwise.fixes.replace:Replace",
        "scale_heads": "headwise.fixes.scale_heads:ScaleHeads",
        "set_rows": "headwise.fixes.set_rows:SetRows",
        "zero_heads": "headwise.fixes.scale_heads:ZeroHeads",
    },
)

get, names = FIXES.get, FIXES.names
