"""Tiny models on a CUDA device, and what has to agree with the CPU's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from headwise.testing.inputs import Inputs
from tests.tiny import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transformers import PreTrainedModel

    from headwise import Trace

MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5, "equal_nan": True}
FAMILIES = ("gpt2", "llama", "gemma2", "gpt_oss", "bert", "llava", "qwen2_vl", "whisper", "t5", "marian")


def on_cuda(inputs: Inputs) -> Inputs:
    """The same inputs on the device."""
    return {name: value.cuda() for name, value in inputs.items()}


def built(name: str, attention: str | None = None, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A tiny model on the device."""
    model: Any = ARCHITECTURES[name].build(attention)
    return model.to("cuda", dtype)


def assert_same_trace(
    trace: Trace, expected: Trace, fields: Iterable[str] | None = None, **close: Any
) -> None:
    """Every field of every record agrees, wherever it lies."""
    assert trace.sites == expected.sites
    for site in trace.sites:
        record, other = trace.records[site], expected.records[site]
        assert set(record) == set(other), site
        for field in fields or record:
            torch.testing.assert_close(
                record[field].cpu(),
                other[field].cpu(),
                msg=lambda text, field=field, site=site: f"{site} {field}: {text}",
                **(CLOSE | close),
            )


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Float32 products and convolutions without TF32."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    yield
    products.allow_tf32, convolutions.allow_tf32 = before
