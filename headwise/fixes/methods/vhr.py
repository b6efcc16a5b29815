"""VHR: vision-aware head reinforcement, and the divergence that chooses the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.fixes.arguments import as_numbers, as_text, between, one_of, whole_number, yes_or_no
from headwise.fixes.methods._branches import Without, beside_itself
from headwise.fixes.methods._images import require_images
from headwise.fixes.methods.published import REINFORCED_LAYERS
from headwise.functional.divergence import NOISE, Deviation, Distance, head_divergence, sensitive_heads
from headwise.functional.redistribution import hide_keys
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context, PromptContext
from headwise.subject.info import ModelInfo


@dataclass(frozen=True, kw_only=True)
class VHR:
    """Vision-aware head reinforcement: what the image-sensitive heads write counts `alpha` times.

    When a prompt is read, it is read once more beside itself without its image. In every reinforced layer the heads
    whose output at the last position changes most (`head_divergence`, `sensitive_heads`) are multiplied by `alpha`,
    layer by layer, so that a layer is measured with the earlier ones reinforced. The choice holds for all positions of
    the prompt and for everything generated. It costs one more reading of the prompt at twice the batch, and next to
    nothing afterwards.

    He et al., "Cracking the Code of Hallucination in LVLMs with Vision-aware Head Divergence" (ACL 2025, arXiv
    2412.13949v3). Its repository could not be obtained. Ours: the standard deviation of a sample, both branches
    reinforced while they are measured, how the image is removed, the layers of other models.

    Args:
        alpha: 2 in the paper, which finds broken text from 4 on; 1 changes nothing, bit for bit.
        layers: those published for the model when None; else layer 1 and the last 14/32 of the layers.
        without: how the image is removed: "drop" deletes its tokens, "mask" keeps them and hides them from the text.
        choose: "divergence"; "random" takes as many heads at random, as a control.
        distance: "plain" in the paper; see `head_divergence`.
        outliers: False keeps heads that react to the missing image.
        deviation: "sample" or "population".
        scale_both: reinforce the branch without image, too, while measuring.
        seed: of random heads.
        no_image: what to do with a prompt without image: "refuse" or "skip".
        source: where `layers` come from, for the record.

    Raises:
        FixError: a parameter out of range; in `hw.patch`, a model that takes no images.

    Example:
        >>> VHR(alpha=1.5).alpha
        1.5
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    space: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.5, 3.0)}

    alpha: float = 2.0
    layers: Sequence[int] | None = None
    without: Without = "drop"
    choose: Literal["divergence", "random"] = "divergence"
    distance: Distance = "plain"
    outliers: bool = True
    deviation: Deviation = "sample"
    scale_both: bool = True
    seed: int = 0
    no_image: Literal["refuse", "skip"] = "refuse"
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", between(self.alpha, "alpha", 0.0, 100.0))
        if self.layers is not None:
            object.__setattr__(self, "layers", as_numbers(self.layers, "layers"))
        whole_number(self.seed, "seed", 0, 2**31)
        yes_or_no(self.outliers, "outliers")
        yes_or_no(self.scale_both, "scale_both")
        one_of(self.without, "without", ("drop", "mask"))
        one_of(self.choose, "choose", ("divergence", "random"))
        one_of(self.distance, "distance", ("plain", "relative", "cosine"))
        one_of(self.deviation, "deviation", ("sample", "population"))
        one_of(self.no_image, "no_image", ("refuse", "skip"))
        as_text(self.source, "source")

    @property
    def linear(self) -> bool:
        """True: each head is multiplied by a number, so the same can be done to its pattern."""
        return True

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return self.alpha == 1.0 or (self.layers is not None and not self.layers)

    def bind(self, model: ModelInfo) -> VHR:
        """The same with the layers filled in for a model."""
        if self.neutral:
            return self
        if self.layers is not None:
            return self
        for name, family, depth, layers in REINFORCED_LAYERS:
            if (family, depth) == (model.family, model.layers):
                return replace(self, layers=layers, source=f"table: {name}")
        first = model.layers - round(14 / 32 * model.layers)
        chosen = {1, *range(first, model.layers)} & set(range(model.layers))
        return replace(self, layers=tuple(sorted(chosen)), source="layer 1 and the last 14/32 (ours)")

    def begin(self, prompt: PromptContext) -> None:
        """Chooses the heads of a prompt."""
        require_images(self, prompt, skip=self.no_image == "skip")
        image = prompt.have_role("image", prompt.batch)
        if not bool(image.any()):
            for layer in self.layers or ():
                prompt.memory["factors", layer] = torch.ones(prompt.batch, 1, 1, 1)
            return
        choice = _Choice(self, prompt.batch, image)
        prompt.forward(beside_itself(prompt, self.without), choice)
        for layer, heads in choice.chosen.items():
            prompt.memory["factors", layer] = torch.where(heads, self.alpha, 1.0)[:, None, :, None]

    def scale(
        self, z: Float[Tensor, "batch query head width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query head width"]:
        """Head outputs, those of the chosen heads reinforced."""
        return z * context.memory.of(("factors", site.layer), len(z)).to(z)


class _Choice:
    """The fix that chooses heads while a prompt and itself without image are read side by side."""

    def __init__(self, fix: VHR, batch: int, image: Tensor) -> None:
        self.fix, self.batch, self.image = fix, batch, image
        self.layers = fix.layers
        self.steps = ("scale", "edit") if fix.without == "mask" else ("scale",)
        if fix.without == "mask":
            self.layers = None  # the image is hidden in all layers
        self.chosen: dict[int, Tensor] = {}

    def edit(self, pattern: Tensor, site: Site, context: Context) -> Tensor:
        """The branch without image: the image is hidden from every row that is none of its own."""
        image = self.image.to(pattern.device)
        text = ~image[:, context.positions.clamp_max(image.shape[1] - 1)]
        keys = torch.nn.functional.pad(image, (0, pattern.shape[-1] - image.shape[1]))
        hidden = (text[:, :, None] & keys[:, None])[:, None]
        return torch.cat([pattern[: self.batch], hide_keys(pattern[self.batch :], hidden)])

    def scale(self, z: Tensor, site: Site, context: Context) -> Tensor:
        """Chooses the heads of a layer, and reinforces them."""
        if site.layer not in (self.fix.layers or ()):
            return z
        last = context.last_prompt_positions(len(z)).to(z.device)
        at = z[torch.arange(len(z), device=z.device), last]
        seeing, blind = at[: self.batch], at[self.batch :]
        divergence = head_divergence(seeing, blind, distance=self.fix.distance)
        energy = blind.float().square().sum(-1)
        noise = max(NOISE, 8 * torch.finfo(z.dtype).eps)
        heads = sensitive_heads(
            divergence, energy, outliers=self.fix.outliers, deviation=self.fix.deviation, noise=noise
        )
        heads &= self.image.any(-1, keepdim=True).to(heads.device)
        if self.fix.choose == "random":
            heads = self._shuffled(heads, site.layer)
        self.chosen[site.layer] = heads
        both = torch.cat([heads, heads if self.fix.scale_both else torch.zeros_like(heads)])
        return torch.where(both[:, None, :, None], z * self.fix.alpha, z)

    def _shuffled(self, heads: Tensor, layer: int) -> Tensor:
        """As many heads, the same ones for every prompt of this size."""
        draw = torch.Generator().manual_seed(self.fix.seed * 1000 + layer)
        order = torch.randperm(heads.shape[1], generator=draw).to(heads.device)
        return heads[:, order]
