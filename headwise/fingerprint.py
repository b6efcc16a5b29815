"""A short name for the weights of a model, to tell one checkpoint from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

_SAMPLES = 64


def fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that depend on the names, shapes and values of the weights.

    Of every tensor in memory, 64 evenly spaced values are read, as float32: a training step changes it, loading
    the same float16 file as float32 does not.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = fingerprint(layer)
        >>> with torch.no_grad():
        ...     _ = layer.bias.add_(1)
        >>> fingerprint(layer) != before
        True
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        count = min(_SAMPLES, len(flat))
        places = torch.arange(count) * max(len(flat) - 1, 0) // max(count - 1, 1)  # exact for any size
        digest.update(f"{name}{tuple(value.shape)}".encode())
        if value.is_meta:  # offloaded: its values are not at hand
            continue
        digest.update(flat[places.to(flat.device)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
