"""Steps of headwise within a model that is compiled: Dynamo calls them, and does not trace what they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch

_REASON = (
    "headwise captures or patches this model, which no single graph can do. Compile it with fullgraph=False, or write "
    "the fix into the weights with hw.bake."
)


def untraced(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that runs outside every graph: eagerly, once for every call of a compiled model.

    `torch.compiler.disable` alone would import the compiler, for a second, with every process that captures.
    """

    @wraps(step)
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(msg=_REASON)
            return _outside(step)(*args, **kwargs)
        return step(*args, **kwargs)

    return run


@cache
def _outside(step: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compiler.disable(step)
