"""The fingerprint of weights: large tensors are read to their last value, and types do not matter."""

from __future__ import annotations

import torch
from torch import nn

from headwise.model.fingerprint import fingerprint


class Large(nn.Module):
    """So many weights that float32 cannot count them; one byte each, and most of them never touched."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(2**24 + 4, dtype=torch.int8))


def test_a_tensor_larger_than_float32_can_count():
    model = Large()
    before = fingerprint(model)
    model.table[-1] = 1
    assert fingerprint(model) != before


def test_half_precision_on_disk_is_the_same_model():
    layer = nn.Linear(3, 5).half()
    wide = nn.Linear(3, 5)
    wide.load_state_dict(layer.state_dict())
    assert fingerprint(wide) == fingerprint(layer)
    assert fingerprint(nn.ParameterList([nn.Parameter(torch.ones(0))]))
