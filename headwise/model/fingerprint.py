"""A short name for the weights of a model, to tell one checkpoint from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

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
        digest.update(f"{name}{tuple(value.shape)}".encode())
        values, _ = sampled(value, _SAMPLES)
        if values is not None:
            digest.update(values.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def sampled(tensor: Tensor, count: int) -> tuple[Tensor | None, Tensor]:
    """Evenly spaced values of a tensor as float32, and their places; None for values that are not in memory."""
    size = tensor.numel()
    count = min(count, size)
    places = torch.arange(count) * max(size - 1, 0) // max(count - 1, 1)  # exact for any size
    if tensor.is_meta:  # offloaded
        return None, places
    if type(tensor) not in (Tensor, Parameter):  # quantised in place
        tensor = tensor.dequantize()
    return tensor.detach().flatten()[places.to(tensor.device)].float(), places
