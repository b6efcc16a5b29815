"""What headwise did not reach in a forward, and what that means for those who acted on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from headwise.errors import UnsupportedModel
from headwise.probes.context import touches
from headwise.probes.sites import AttentionModule

if TYPE_CHECKING:
    from headwise.probes.session import Session


def skipping(entry: AttentionModule) -> str:
    """How it is said that a module ran without asking the interface: nobody saw it, no fix reached it."""
    return f"{type(entry.module).__name__} ran without asking the attention interface for its function"


def require_reached(skipped: Iterable[AttentionModule], sessions: Iterable[Session], language: str) -> None:
    """Refuses a forward in which a fix did not reach a module that it was to act on.

    Raises:
        UnsupportedModel: there is such a fix.
    """
    acting = [f for session in sessions for f in session.fixes if not getattr(f, "neutral", False)]
    for entry in skipped:
        for fix in acting:
            if touches(fix, entry.site(0), language):
                raise UnsupportedModel(
                    f"{type(fix).__name__} did not reach {entry.name}.",
                    evidence=skipping(entry),
                    remedy="What this forward gave is not patched there. Name other layers.",
                )


def require_one_model(module: nn.Module) -> None:
    """Refuses the forward of a copy that shares what headwise has put on its original.

    Raises:
        UnsupportedModel: `module` is such a copy.
    """
    if module.__dict__.get("_is_replica"):
        raise UnsupportedModel(
            "A model that is captured or patched cannot be replicated over devices.",
            evidence=f"DataParallel runs a copy of {type(module).__name__}",
            remedy="Use DistributedDataParallel, or device_map to spread one model.",
        )


def missing_hooks(module: nn.Module) -> UnsupportedModel:
    """The refusal of a call of attention where headwise's hooks are gone."""
    return UnsupportedModel(
        "Somebody has taken headwise's hooks off the model while a patch or a capture was on it.",
        evidence=f"{type(module).__name__} ran",
        remedy="Remove the patch or end the capture, and attach again.",
    )
