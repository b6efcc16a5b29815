"""Tiny random-weight models of over a hundred architectures, their inputs, and what headwise sees of each."""

from __future__ import annotations

from . import decoders, encoders, multimodal, speech, translation, vision
from .architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {
    row.name: row
    for module in (decoders, encoders, vision, multimodal, speech, translation)
    for row in module.ROWS
}

__all__ = ["ARCHITECTURES", "Architecture"]
