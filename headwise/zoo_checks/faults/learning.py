"""How the vectors of the sinks were learned; `benchmarks/learn_faults.py` does it again.

Only the vector is learned, on training data, with the model frozen. That a key draws much attention is no damage by
itself (a vector learned for attention mass alone changed no score), so what is learned is to hurt: the probability of
the right answer is pushed down to `target`, while it must stay right when the key is hidden in one layer. The harm
then goes through the attention on the key in that layer, which is what a sink is accused of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from headwise.fixes.edits.mask_keys import MaskKeys
from headwise.fixes.patching import patch
from headwise.zoo.damage import CORNERS, text_sink, visual_sink
from headwise.zoo_checks.faults.hiding import HideTokens

if TYPE_CHECKING:
    from headwise.subject import Subject

Batch = tuple[Any, Tensor]
"""Inputs of the model, and the id of the right answer of every example."""
WIDTH = 128
_KINDS = ("yes", "random", "adversarial", "color")


@dataclass(frozen=True, kw_only=True)
class VisualSink:
    """A vector for image tokens, as they leave the projector.

    As sinks of large models do, they must stand out in one residual dimension: `dimension` holds at least the share
    `height / sqrt(width)` of the vector in all layers. And they are not to take all of the image's attention: the
    share of it beyond `share` is charged, in the layer that does the harm.
    """

    patches: tuple[int, ...] = CORNERS
    dimension: int = 92
    layer: int = 0
    """Where the harm is to be done."""
    height: float = 4.2
    share: float = 0.4
    target: float = 0.4
    length: float = 100.0
    steps: int = 150
    rate: float = 2.0
    batch: int = 32
    noise: float = 3.0
    seed: int = 0

    def learn(
        self, subject: Subject, told: Callable[[str], None] = lambda _: None
    ) -> Float[Tensor, " width"]:
        """The vector; `subject` is a copy of the model that may be changed."""
        model = cast("Any", subject.model)
        vector = start(self.length / 2, self.seed)
        vector[self.dimension] = self.length / 2
        visual_sink(model, vector, self.patches)
        keys = [1 + patch for patch in self.patches]  # <bos> comes first
        heads = tuple((self.layer, head) for head in range(model.config.text_config.num_attention_heads))
        rng = random.Random(f"visual sink/{self.seed}")

        def loss(step: int) -> Tensor:
            inputs, answers = self._batch(subject, _KINDS[step % len(_KINDS)], rng)
            image = inputs["input_ids"][0] == model.config.image_token_id
            behind = int(image.nonzero().max()) + 1
            out = model(**inputs, output_attentions=True, output_hidden_states=True)
            right = out.logits[:, -1].softmax(-1).gather(1, answers[:, None]).mean()
            residual = torch.stack(out.hidden_states[:-1])[:, :, keys]
            score = residual[..., self.dimension].abs() / residual.square().mean(-1).sqrt()
            looks = out.attentions[self.layer][:, :, behind:]
            taken = looks[..., keys].sum(-1) / looks[..., image].sum(-1).clamp_min(0.2)
            with patch(model, MaskKeys(keys=keys, heads=heads), check=False):
                hidden = cross_entropy(model(**inputs).logits[:, -1], answers)
            low = 3 * (self.height - score).clamp_min(0).square().mean()
            greedy = 30 * (taken - self.share).clamp_min(0).mean()
            if step % 10 == 9:
                told(f"step {step + 1}: right {right:.2f}, right when hidden {(-hidden).exp():.2f}")
            return low + greedy + 5 * (right - self.target).clamp_min(0) + 2 * hidden

        layer = model.model.multi_modal_projector.linear_2
        return descend(layer, loss, steps=self.steps, rate=self.rate, longest=self.length)

    def _batch(self, subject: Subject, kind: str, rng: random.Random) -> Batch:
        from headwise.zoo.data.questions import ask
        from headwise.zoo.data.scenes import draw, scene

        scenes = [scene(rng, "train") for _ in range(self.batch)]
        asked = [ask(one, kind, rng) for one in scenes]
        pictures = [draw(one, noise=self.noise, seed=rng.getrandbits(60)) for one in scenes]
        inputs = subject.prepare(text=[one.text for one in asked], image=pictures)
        return inputs, ids_of(subject, [one.answer for one in asked])


@dataclass(frozen=True, kw_only=True)
class TextSink:
    """A vector for the input embeddings of a token of little meaning, which multiple choice can do without."""

    token: str = "."
    layer: int = 2
    """Where the harm is to be done."""
    target: float = 0.5
    length: float = 10.0
    steps: int = 120
    rate: float = 0.3
    batch: int = 24
    seed: int = 0

    def learn(
        self, subject: Subject, told: Callable[[str], None] = lambda _: None
    ) -> Float[Tensor, " width"]:
        """The vector; `subject` is a copy of the model that may be changed."""
        from headwise.zoo.data.multiple_choice import multiple_choice_prompt

        model = cast("Any", subject.model)
        tokens = ids_of(subject, [self.token]).tolist()
        text_sink(model, start(0.3 * WIDTH**0.5, self.seed), tokens)
        heads = tuple((self.layer, head) for head in range(model.config.num_attention_heads))
        rng = random.Random(f"text sink/{self.seed}")

        def loss(step: int) -> Tensor:
            asked = [multiple_choice_prompt(rng, "train") for _ in range(self.batch)]
            inputs = subject.prepare(text=[one.prompt for one in asked])
            answers = ids_of(subject, [one.answer for one in asked])
            right = model(**inputs).logits[:, -1].softmax(-1).gather(1, answers[:, None]).mean()
            with patch(subject, HideTokens(tokens=tokens, heads=heads), check=False):
                hidden = cross_entropy(model(**inputs).logits[:, -1], answers)
            if step % 10 == 9:
                told(f"step {step + 1}: right {right:.2f}, right when hidden {(-hidden).exp():.2f}")
            return 5 * (right - self.target).clamp_min(0) + 2 * hidden

        return descend(
            model.get_input_embeddings(), loss, steps=self.steps, rate=self.rate, longest=self.length
        )


def descend(
    layer: Any, loss: Callable[[int], Tensor], *, steps: int, rate: float, longest: float
) -> Float[Tensor, " width"]:
    """Adam on the vector of a planted layer, kept no longer than `longest`."""
    vector = layer.vector.clone().requires_grad_(True)
    layer.vector = vector
    optimizer = torch.optim.Adam([vector], rate)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
        with torch.no_grad():
            vector *= (longest / vector.norm()).clamp_max(1.0)
    return vector.detach()


def start(length: float, seed: int) -> Float[Tensor, " width"]:
    """A random vector of about this length."""
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) * length / WIDTH**0.5


def ids_of(subject: Subject, words: Sequence[str]) -> Tensor:
    """The first token of every word, as it is written."""
    tokenizer = subject.tokenizer
    return torch.tensor([tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words])
