"""Fixes by name: headwise's own, and those that packages add through the entry-point group `headwise.fixes`."""

from __future__ import annotations

from headwise.plugins import Plugins, needed

FIXES = Plugins(
    "fix",
    "headwise.fixes",
    {
        "act": "headwise.fixes.methods.act:ACT",
        "mask_keys": "headwise.fixes.edits.mask_keys:MaskKeys",
        "replace": "headwise.fixes.edits.replace:Replace",
        "scale_heads": "headwise.fixes.edits.scale_heads:ScaleHeads",
        "set_rows": "headwise.fixes.edits.set_rows:SetRows",
        "var": "headwise.fixes.methods.var:VAR",
        "vhr": "headwise.fixes.methods.vhr:VHR",
        "zero_heads": "headwise.fixes.edits.scale_heads:ZeroHeads",
    },
)

get, names = FIXES.get, FIXES.names


def in_place_of_a_file(text: str) -> str:
    """What to do where the name of a fix stands in the place of a spec; empty where it names none.

    Example:
        >>> in_place_of_a_file("ACT")[:37]
        'ACT is a fix: install hw.fixes.ACT(),'
    """
    name = text.partition(":")[0]
    known = FIXES.find(name)
    if known is None:
        return ""
    kind = get(known)
    missing = ", ".join(f"{option}=..." for option in needed(kind, ()))
    own = kind.__module__.startswith("headwise.")
    made = f"hw.fixes.{kind.__name__ if own else known}({missing})"
    fitted = f", or what hw.fit(subject, {made}, ...) finds," if callable(getattr(kind, "fit", None)) else ""
    return f"{name} is a fix: install {made}{fitted} or give the file that hw.save_spec wrote."
