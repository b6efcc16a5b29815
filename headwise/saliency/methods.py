"""All methods of saliency by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from headwise.errors import InputError
from headwise.plugins import close_names
from headwise.saliency.attention import attention, attention_times_gradient, chefer, flow, rollout
from headwise.saliency.explained import Explained, Maps
from headwise.saliency.gradients import by_gradient, norms, product, size
from headwise.saliency.lrp import relevance
from headwise.saliency.paths import integrated_gradients
from headwise.saliency.removal import ablation
from headwise.saliency.spes import random_masks, spes

Method = Callable[[Explained], Maps]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gradient x input": partial(by_gradient, reduce=product),
        "gradient": partial(by_gradient, reduce=size),
        "norm gradient": partial(by_gradient, reduce=norms),
        "integrated gradients": integrated_gradients,
        "ablation": ablation,
        "attention": attention,
        "attention x gradient": attention_times_gradient,
        "relevancy": chefer,
        "rollout": rollout,
        "flow": flow,
        "attention lrp": partial(relevance, variant="attn"),
        "cp lrp": partial(relevance, variant="cp"),
        "random masks": random_masks,
        "spes": spes,
    }
)
"""Name -> the method."""
_MODULES = (
    "its rules are for activations that are modules, not the functions of transformers: it is silently wrong"
)
_ONE = "it fits one number at a time, in a run of its own for every token; method='ablation' explains all in one pass"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "deeplift": f"{_MODULES}, and equals gradient x input",
        "guided backprop": _MODULES,
        "deconvolution": _MODULES,
        "lrp": "captum's knows no attention; method='cp lrp' or 'attention lrp' does",
        "kernel shap": _ONE,
        "lime": _ONE,
        "llm attribution": "it joins prompt and reply in input_ids, which is wrong for an encoder-decoder",
    }
)
"""Methods of captum that are not offered -> why: they are wrong for a transformer, or for this use of one."""


def find_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        InputError: there is none.
    """
    if name in METHODS:
        return METHODS[name]
    if reason := REFUSED.get(name.lower().replace("_", " ")):
        raise InputError(f"{name} is not offered: {reason}.", remedy=f"Use one of {', '.join(METHODS)}.")
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
