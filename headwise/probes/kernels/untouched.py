"""Check that an edit has left the tensor that it was shown alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def untouched(shown: Tensor) -> Callable[[Tensor], bool]:
    """A question for after the edit: is this the very tensor, as it was?

    Tensors of `torch.inference_mode` count no versions: there the values are compared.

    Example:
        >>> tensor = torch.zeros(2)
        >>> same = untouched(tensor)
        >>> same(tensor), same(tensor.add_(1))
        (True, False)
    """
    if shown.is_inference():
        kept = shown.clone()
        return lambda new: new is shown and torch.equal(new, kept)
    version = shown._version
    return lambda new: new is shown and new._version == version
