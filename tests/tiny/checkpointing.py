"""Layers that are run again for the backward pass, under the name that the release has for it."""

from __future__ import annotations

from typing import Any


def enable_checkpointing(model: Any, **options: Any) -> None:
    """`activation_checkpointing_enable`, which up to transformers 5.22 is `gradient_checkpointing_enable`."""
    named = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable = next(getattr(model, name) for name in named if hasattr(model, name))
    enable(options or None)
