"""Damaged models of the zoo, such as "zoo:lm+text-sink": vectors added to what modules give, and weights scaled.

What the damage does to a model, what repairs it and what must not is told by `headwise.zoo_checks.faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from importlib.resources import as_file, files
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headwise.errors import InputError

VECTORS = "vectors.safetensors"
FULL_STOP = 17
CORNERS = (0, 5)
"""The upper corners of 6 x 6 patches, which mostly show background."""
CARRIERS = ((1, 2), (1, 3), (1, 4), (1, 5))
"""The half of layer 1 whose outputs change most when the picture is taken away."""
MUTED = 0.07
READERS = ((0, 0), (0, 1))
"""The heads of layer 0 that look at text only."""
AMPLIFIED = 4.0


class SinkLinear(nn.Linear):
    """A linear layer that adds a vector to its output at chosen positions (the last axis but one).

    Parameters keep their names; vector and positions are buffers.
    """

    vector: Tensor
    places: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output, with the vector added."""
        out = super().forward(input)
        there = torch.zeros(out.shape[-2], 1, dtype=out.dtype, device=out.device).index_fill(
            0, self.places, 1
        )
        return out + there * self.vector.to(out.dtype)


class SinkEmbedding(nn.Embedding):
    """An embedding that adds a vector to the embeddings of chosen tokens, and leaves the weights as they are.

    An output layer that is tied to the embedding is therefore not changed.
    """

    vector: Tensor
    tokens: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """The embeddings, with the vector added."""
        out = super().forward(input)
        return out + torch.isin(input, self.tokens)[..., None] * self.vector.to(out.dtype)


def add_at(layer: nn.Linear, vector: Float[Tensor, " width"], places: Sequence[int]) -> SinkLinear:
    """A layer with the parameters of `layer` that adds `vector` at `places`."""
    own = SinkLinear.__new__(SinkLinear)
    nn.Module.__init__(own)
    own.in_features, own.out_features = layer.in_features, layer.out_features
    own.weight, own.bias = layer.weight, layer.bias
    own.register_buffer("vector", vector)
    own.register_buffer("places", torch.tensor(places))
    return own.to(layer.weight.device).train(layer.training)


def add_to(embedding: nn.Embedding, vector: Float[Tensor, " width"], tokens: Sequence[int]) -> SinkEmbedding:
    """An embedding with the parameters of `embedding` that adds `vector` to those of `tokens`."""
    own = SinkEmbedding.__new__(SinkEmbedding)
    nn.Module.__init__(own)
    for name in (
        *("num_embeddings", "embedding_dim", "padding_idx"),
        *("max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
    ):
        setattr(own, name, getattr(embedding, name))
    own.weight = embedding.weight
    own.register_buffer("vector", vector)
    own.register_buffer("tokens", torch.tensor(tokens))
    return own.to(embedding.weight.device).train(embedding.training)


def visual_sink(model: Any, vector: Float[Tensor, " width"], patches: Sequence[int]) -> None:
    """Adds a vector to image tokens where they leave the projector of a LLaVA."""
    projector = model.model.multi_modal_projector
    projector.linear_2 = add_at(projector.linear_2, vector, patches)


def text_sink(model: Any, vector: Float[Tensor, " width"], tokens: Sequence[int]) -> None:
    """Adds a vector to the input embeddings of some tokens."""
    model.set_input_embeddings(add_to(model.get_input_embeddings(), vector, tokens))


def scale_written(model: Any, heads: Sequence[tuple[int, int]], factor: float) -> None:
    """Scales what heads write: their columns of W_O in a Llama-class text tower."""
    layers = model.get_decoder().layers
    for layer, head in heads:
        attention = layers[layer].self_attn
        width = attention.head_dim
        with torch.no_grad():
            attention.o_proj.weight[:, head * width : (head + 1) * width] *= factor


def _plant_visual_sink(model: Any) -> None:
    visual_sink(model, learned("visual_sink"), CORNERS)


def _plant_text_sink(model: Any) -> None:
    text_sink(model, learned("text_sink"), (FULL_STOP,))


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Damage to one model of the zoo."""

    name: str
    model: str
    """The model of the zoo that it belongs to, such as "zoo:vlm"."""
    apply: Callable[[Any], None]
    """Changes the model, in place."""


DAMAGE = {
    damage.name: damage
    for damage in (
        Damage(name="visual-sink", model="zoo:vlm", apply=_plant_visual_sink),
        Damage(name="text-sink", model="zoo:lm", apply=_plant_text_sink),
        Damage(
            name="muted-heads",
            model="zoo:vlm",
            apply=partial(scale_written, heads=CARRIERS, factor=MUTED),
        ),
        Damage(
            name="language-prior",
            model="zoo:vlm",
            apply=partial(scale_written, heads=READERS, factor=AMPLIFIED),
        ),
    )
}


def find_damage(name: str, model: str | None = None) -> Damage:
    """The damage called `name`.

    Args:
        name: such as "text-sink".
        model: the model that is to be damaged, such as "zoo:lm".

    Raises:
        InputError: there is none, and close names are listed; or it belongs to another model.

    Example:
        >>> find_damage("text-sink").model
        'zoo:lm'
    """
    if name not in DAMAGE:
        raise InputError(
            f"There is no fault {name!r}.",
            evidence=f"close: {', '.join(get_close_matches(name, DAMAGE) or DAMAGE)}",
            remedy="headwise.zoo_checks.faults.names() lists them all.",
        )
    damage = DAMAGE[name]
    if model not in (None, damage.model):
        raise InputError(
            f"The fault {name} belongs to {damage.model}.",
            evidence=f"{model}+{name}",
            remedy=f'Load "{damage.model}+{name}".',
        )
    return damage


@cache
def _vectors() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with as_file(files("headwise.zoo") / VECTORS) as path:
        return load_file(path)


def learned(name: str) -> Float[Tensor, " width"]:
    """A vector that was learned by `headwise.zoo_checks.faults.learning`."""
    return cast("Tensor", _vectors()[name]).clone()
