"""All methods of saliency by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from headwise.errors import InputError
from headwise.plugins import close_names
from headwise.saliency.attention import attention_times_gradient
from headwise.saliency.explained import Explained, Maps
from headwise.saliency.gradients import by_gradient, norms, product, size

Method = Callable[[Explained], Maps]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gradient x input": partial(by_gradient, reduce=product),
        "gradient": partial(by_gradient, reduce=size),
        "norm gradient": partial(by_gradient, reduce=norms),
        "attention x gradient": attention_times_gradient,
    }
)
"""Name -> the method."""


def find_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: there is none.
    """
    if name in METHODS:
        return METHODS[name]
    raise InputError(
        f"There is no method of saliency {name!r}.",
        evidence=close_names(name, METHODS),
        remedy=f"Use one of {', '.join(METHODS)}.",
    )


def saliency_maps(example: Explained, method: str) -> Maps:
    """Saliency of every position that the model reads, for every token of the reply, in float32 on the CPU.

    NaN where a token cannot rest on a position: padding, and what was read behind it.
    """
    maps = find_method(method)(example)
    return {
        tower: values.detach().float().cpu().where(example.visible(tower), float("nan"))
        for tower, values in maps.items()
    }
