"""A short name for the weights of a model, to tell one checkpoint from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

if TYPE_CHECKING:
    from torch import nn

_SAMPLES = 64


def fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that depend on the names, shapes and values of the weights.

    Of every tensor in memory, 64 evenly spaced values are read, as float32: a training step changes it, loading
    the same float16 file as float32 does not. It takes some 10 microseconds for every tensor, whatever its size.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> before = fingerprint(layer)
        >>> with torch.no_grad():
        ...     _ = layer.bias.add_(1)
        >>> fingerprint(layer) != before
        True
    """
    digest = hashlib.sha256()
    views: dict[tuple[torch.dtype, torch.device], list[tuple[int, Tensor]]] = {}
    place = 0
    with torch.no_grad():
        for name, value in sorted(model.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            for view in map(_spaced, _plain(value)):
                views.setdefault((view.dtype, view.device), []).append((place, view))
                place += 1
        values = dict(pair for parts in views.values() for pair in _read(parts))
    for place in sorted(values):
        digest.update(values[place].tobytes())
    return digest.hexdigest()[:16]


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors that hold the values of one; of a quantised one, its packed values and scales."""
    if tensor.is_meta:  # offloaded
        return
    if type(tensor) in (Tensor, Parameter):
        yield tensor
    elif flatten := getattr(tensor, "__tensor_flatten__", None):
        for name in flatten()[0]:
            part = getattr(tensor, name)
            if isinstance(part, Tensor):  # and no mesh of devices
                yield from _plain(part)
    else:
        yield tensor.dequantize()


def _spaced(tensor: Tensor) -> Tensor:
    """Evenly spaced values of a tensor, to its last, from many columns; a view where it lies in one piece."""
    size = tensor.numel()
    count = min(_SAMPLES, size)
    step, width = max(size - 1, 1) // max(count - 1, 1), tensor.shape[-1] if tensor.dim() else 1
    while gcd(step, width) > 1:  # else every value would be of the same few columns
        step -= 1
    tensor = tensor.contiguous()
    first = max(size - 1 - step * (count - 1), 0)
    view = tensor.as_strided((count,), (step,), tensor.storage_offset() + first)
    return view.float() if view.is_floating_point() and view.itemsize == 1 else view


def _read(parts: Sequence[tuple[int, Tensor]]) -> Iterator[tuple[int, np.ndarray]]:
    """Values of tensors of one type on one device, fetched at once, with their places."""
    values = torch.cat([view for _, view in parts]).float().cpu().numpy()
    end = 0
    for place, view in parts:
        start, end = end, end + len(view)
        yield place, values[start:end]


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
