"""The projections W_O and W_V of every site, found by what they are fed and what they give, and not by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.probes.attach.sites import Site
from headwise.probes.capture import capture
from headwise.probes.check.output_layers import Projection, is_linear, output_layers, weight_of
from headwise.probes.check.probe_inputs import first_that_fits
from headwise.subject import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


def output_projections(
    subject: Subject | PreTrainedModel, inputs: Mapping[str, Any] | None = None
) -> tuple[dict[Site, Projection], list[Site]]:
    """Finds W_O of every site by running the model once and comparing what linear layers are fed with z.

    Args:
        subject: a `Subject` or a bare transformers model.
        inputs: keyword arguments of the model's forward; a few made-up tokens when None.

    Returns:
        The projection of every site where a linear layer is fed z as it is, and the sites where none is: a norm or
        a gate stands between (BitNet, Qwen3-Next), calls are joined first (DiffLlama), or z is out of reach (modules
        seen through their softmax).

    Raises:
        InputError: no input could be made up for the model.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> found, missing = output_projections(model)
        >>> [(str(site), p.name, tuple(p.weight.shape)) for site, p in found.items()], missing
        ([('text self 0', 'transformer.h.0.attn.c_proj', (2, 4, 8))], [])
    """
    model, _ = unwrap(subject)
    return output_layers(model, inputs)


def value_projections(
    subject: Subject | PreTrainedModel, inputs: Mapping[str, Any] | None = None
) -> tuple[dict[Site, Float[Tensor, "kv_head model_width width"]], list[Site]]:
    """Finds W_V of every site by running the model once and comparing what linear layers give with the values.

    Args:
        subject: a `Subject` or a bare transformers model.
        inputs: keyword arguments of the model's forward; a few made-up tokens when None.

    Returns:
        W_V of every key head, from the residual behind the layer's norm to a value, without its bias; and the sites
        where no linear layer gives the values as they are.

    Raises:
        InputError: no input could be made up for the model.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> found, missing = value_projections(model)
        >>> [(str(site), tuple(weight.shape)) for site, weight in found.items()], missing
        ([('text self 0', (2, 8, 4))], [])
    """
    model, _ = unwrap(subject)
    given: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        given.append((module, output))

    hooks = [module.register_forward_hook(note) for module in model.modules() if is_linear(module)]
    try:
        with torch.no_grad(), capture(subject, qkv=True, stats=False, check=False) as trace:
            first_that_fits(model, inputs, lambda candidate: model(**candidate))
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[Site, Tensor] = {}
    for site in trace.values:
        values = trace.values[site][0]
        for module, output in given:
            if not isinstance(output, Tensor):  # a router
                continue
            places = [_columns(output.flatten(0, -2), head) for head in values]
            if all(place is not None for place in places):
                weight = weight_of(module)
                found[site] = torch.stack([weight[:, place] for place in places])
                break
    return found, [site for site in trace.sites if site not in found]


def _columns(output: Float[Tensor, "row column"], values: Float[Tensor, "key width"]) -> slice | None:
    """The columns of a layer's output that are these values, of its first rows."""
    rows, width = values.shape
    if len(output) < rows:
        return None
    for start in (output[0] == values[0, 0]).nonzero().flatten().tolist():
        if torch.equal(output[:rows, start : start + width], values):
            return slice(start, start + width)
    return None
