"""The layer that turns token ids into embeddings."""

from __future__ import annotations

from typing import Any

from torch import nn


def input_embedding(model: Any) -> nn.Module | None:
    """The layer of token embeddings; None for a model without words."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
