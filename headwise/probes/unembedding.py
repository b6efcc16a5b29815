"""The final norm and the unembedding of a model, found by what they are fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headwise.errors import UnsupportedModel
from headwise.probes.check.probe_inputs import first_that_fits
from headwise.subject import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


@dataclass(frozen=True)
class Unembedding:
    """The final norm and the unembedding of a model."""

    norm: Any
    head: Any

    def logits(
        self, residual: Float[Tensor, "*lead width"], words: Int[Tensor, " word"] | None = None
    ) -> Float[Tensor, "*lead word"]:
        """Logits of all words, or of some.

        What a head alone has written becomes logits by it, too; the norm then scales that alone, which changes no rank.
        """
        weight, bias = self.head.weight, getattr(self.head, "bias", None)
        if words is not None:
            weight, bias = weight[words], None if bias is None else bias[words]
        return torch.nn.functional.linear(self.norm(residual.to(weight.dtype)), weight, bias).float()


def unembedding(subject: Subject | PreTrainedModel, inputs: Mapping[str, Any] | None = None) -> Unembedding:
    """The final norm and the unembedding of a model.

    Args:
        subject: a `Subject` or a bare transformers model.
        inputs: keyword arguments of the model's forward; a few made-up tokens when None.

    Raises:
        UnsupportedModel: the model writes no words, or nothing gives its unembedding what it is fed.

    Example:
        >>> from headwise.testing import tiny_model
        >>> unembedding(tiny_model("llama")).logits(torch.ones(2, 32)).shape
        torch.Size([2, 128])
    """
    model: Any = unwrap(subject)[0]
    head = model.get_output_embeddings()
    given: list[tuple[nn.Module, Any]] = []
    fed: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if module is head:
            fed.append(args[0])
        elif isinstance(output, Tensor) and args and isinstance(args[0], Tensor):
            given.append((module, output))

    hooks = [
        module.register_forward_hook(note) for module in model.modules() if not next(module.children(), None)
    ]
    try:
        with torch.no_grad():
            first_that_fits(model, inputs, lambda candidate: model(**candidate))
    finally:
        for hook in hooks:
            hook.remove()
    norm = next((module for module, output in reversed(given) if fed and _same(output, fed[-1])), None)
    if norm is None:
        raise UnsupportedModel(
            "It could not be found out how this model makes logits of its residual.",
            evidence=type(model).__name__,
            remedy="Ask this of a language model with a final norm and an unembedding.",
        )
    return Unembedding(norm, head)


def _same(output: Tensor, fed: Tensor) -> bool:
    """True for the same vectors; a model may read the last rows alone."""
    return output.shape[-1] == fed.shape[-1] and torch.equal(
        output.flatten(0, -2)[-fed.flatten(0, -2).shape[0] :], fed.flatten(0, -2)
    )
