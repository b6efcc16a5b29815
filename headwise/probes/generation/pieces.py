"""Refusal of a prompt that comes in several forwards."""

from __future__ import annotations

from headwise.errors import FixError


def in_pieces(fix: str, evidence: str) -> FixError:
    """The error for a part of a prompt that a fix has to see as a whole."""
    return FixError(
        f"{fix} has to see a prompt as a whole, and this one comes in pieces.",
        evidence=evidence,
        remedy="Read the prompt in one forward: generate without prefill_chunk_size, and every turn of a chat from "
        "its beginning, with a new cache.",
    )
