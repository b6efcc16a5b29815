"""Where the numbers come from, and what a reader has to know before she trusts them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwise.families.verified import doubt
from headwise.layout import ROLES
from headwise.reports.content.formatting import percent

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject


def warnings_of(meta: Mapping[str, Any], trace: Trace | None) -> list[str]:
    """What the engine said, attention it did not see, a family that was not tested, and padding."""
    warnings = [str(warning) for warning in meta.get("warnings") or ()]
    unreached = [name for name in meta.get("unreached") or () if not any(name in said for said in warnings)]
    if unreached:
        warnings.append(
            f"Attention that was not seen, and is missing from every number here: {_some(unreached)}."
        )
    if fallback := meta.get("fallback"):
        warnings.append(
            f"Seen by intercepting their softmax, outside the attention interface: {_some(fallback)}."
        )
    if partial := meta.get("partial"):
        warnings.append(f"Not every head was captured ({partial}); means are over those that were.")
    if fixes := meta.get("patched"):
        warnings.append(
            f"Fixes were on the model while this was captured, and count in every number: {_some(fixes)}."
        )
    family = meta.get("family")
    if family is not None and (said := doubt(str(family))):
        warnings.append(said)
    for tower, axis in trace.layout.axes.items() if trace is not None else ():
        padding = (axis.roles == ROLES.index("padding")).float().mean().item()
        if padding > 0:
            warnings.append(
                f"{percent(padding)} of the {tower} positions are padding; they are left out of every number."
            )
    return warnings


def provenance_of(meta: Mapping[str, Any], subject: Subject | None) -> dict[str, str]:
    """Model, versions, seed, time and memory, as far as they are known."""
    names = ("task", "model", "model_class", "family", "revision", "dtype", "device", "attention")
    facts = {name.replace("_", " "): meta.get(name) for name in names}
    if subject is not None:
        facts["parameters"] = f"{sum(weight.numel() for weight in subject.model.parameters()):,}"
    facts |= {f"{name} version": version for name, version in (meta.get("versions") or {}).items()}
    facts |= {name: meta.get(name) for name in ("examples", "seed", "created")}
    if meta.get("seconds") is not None and not isinstance(meta["seconds"], Mapping):
        facts["time in the capture"] = f"{meta['seconds']:.2f} s"
    if memory := peak_memory():
        facts["peak memory of the process"] = f"{memory / 1e6:,.0f} MB"
    if parameters := meta.get("parameters"):
        facts["parameters of the analysis"] = _plain(parameters)
    return {name: _plain(value) for name, value in facts.items() if value not in (None, "", [], {})}


def peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _some(names: Sequence[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
