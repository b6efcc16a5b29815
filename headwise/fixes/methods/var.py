"""VAR: visual attention redistribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.errors import FixError, NotFitted
from headwise.fixes.arguments import as_numbers, as_text, between, finite, one_of, yes_or_no
from headwise.fixes.methods._images import require_images
from headwise.fixes.methods.published import SINK_DIMENSIONS, Shape
from headwise.functional.redistribution import (
    SHARE_OF_BOUND,
    bias_of,
    change_of,
    grown,
    sink_score,
    weights_of,
)
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context, PromptContext
from headwise.probes.generation.caches import in_pieces
from headwise.subject.calibration import Calibration
from headwise.subject.info import ModelInfo

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class VAR:
    """Visual attention redistribution: in heads that look at the image, less for sinks and more for the rest of it.

    Some image tokens get much attention from every text token though they show nothing. They, and sinks in the text,
    have a few residual dimensions in which they are huge. In every row of text whose head looks at the image, and
    there mostly at tokens that are no sinks, VAR takes the share `p` of the attention on sinks and gives it to the
    image tokens that are none, in proportion to what they have. Rows of image tokens, and all before the image,
    stay as they are. The formula is `redistribute`, and `sink_score` says what a sink is. Sinks are found per layer
    in the prompt; tokens generated later are none.

    Kang et al., "See What You Are Told: Visual Attention Sink in Large Multimodal Models" (ICLR 2025, arXiv
    2503.03321); the code is MICV-yonsei/VisAttnSink. We had the code and three summaries of the paper.

    Args:
        p: the share of the attention on sinks that is moved, 0 to 1; 0 changes nothing, bit for bit. (The released
            code moves 1 - p.)
        rho: how much of a head's attention on the image must lie outside sinks, 0 to 1: 0.8 for general tasks, 0.5
            for hallucination, 0.9 for vision-centric tasks. (The released code asks for 1 - rho.)
        tau: sink score from which a token is a sink; "auto" is 0.3125 times the root of the width, the paper's 20 at
            width 4096. A score cannot exceed the root of the width.
        sink_dims: residual dimensions of sinks; those published for the model when None. For a model without, they
            are fitted: `hw.fit(subject, VAR(), task)`. A fit that finds none gives (), with which nothing changes.
        layers: 2 to the last but one when None, as in the paper.
        least_mass: attention on the image from which a head counts as looking at it.
        require_visual_sink: leave prompts alone in layers where no image token is a sink, as the released code does.
            Without it, the attention on <bos> would go to the image in every head.
        no_image: what to do with a prompt without image: "refuse" or "skip".
        variant: "released" follows the released code where it differs from the paper: it also changes the last
            layer, and a score must exceed tau. Its bugs (sinks of the first image used for later ones, one set of
            dimensions for all models, batches cut short) are not followed.
        source: where `sink_dims` come from, for the record.

    Raises:
        FixError: a parameter out of range; in `hw.patch`, a model that takes no images.
        NotFitted: in `hw.patch`, a model whose sink dimensions are not published.

    Example:
        >>> VAR(p=0.4, sink_dims=(1415, 2533)).p
        0.4
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    space: ClassVar[Mapping[str, tuple[float, float]]] = {"p": (0.0, 1.0), "rho": (0.0, 1.0)}

    p: float = 0.6
    rho: float = 0.8
    tau: float | Literal["auto"] = "auto"
    sink_dims: Sequence[int] | None = None
    layers: Sequence[int] | None = None
    least_mass: float = 0.2
    require_visual_sink: bool = True
    no_image: Literal["refuse", "skip"] = "refuse"
    variant: Literal["paper", "released"] = "paper"
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("p", "rho", "least_mass"):
            object.__setattr__(self, name, between(getattr(self, name), name, 0.0, 1.0))
        if self.tau != "auto":
            object.__setattr__(self, "tau", finite(self.tau, "tau"))
            if float(self.tau) <= 0:
                raise FixError("tau must be above 0.", evidence=f"got {self.tau}")
        for name in ("sink_dims", "layers"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_numbers(getattr(self, name), name))
        yes_or_no(self.require_visual_sink, "require_visual_sink")
        one_of(self.no_image, "no_image", ("refuse", "skip"))
        one_of(self.variant, "variant", ("paper", "released"))
        as_text(self.source, "source")

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return self.p == 0.0 or any(
            given is not None and not given for given in (self.layers, self.sink_dims)
        )

    def missing_constants(self, model: ModelInfo) -> tuple[str, ...]:
        """The sink dimensions, of a model for which they are not published."""
        known = self.neutral or self.sink_dims is not None or _published(model) is not None
        return () if known else ("sink_dims",)

    def bind(self, model: ModelInfo) -> VAR:
        """The same with threshold, layers and dimensions filled in for a model."""
        if self.neutral:
            return self
        last = model.layers - (1 if self.variant == "released" else 2)
        layers = self.layers if self.layers is not None else tuple(range(2, last + 1))
        if not layers:
            raise FixError(
                "VAR leaves the first two layers and the last one alone, and this model has no other.",
                evidence=f"{model.layers} layers",
                remedy="Name layers=.",
            )
        dimensions, source = self.sink_dims, self.source
        if dimensions is None:
            published = _published(model)
            if published is None:
                raise NotFitted(
                    "The sink dimensions of this model are not published.",
                    evidence=f"{model.name}: {model.text_family}, {model.layers} layers, width {model.width}",
                    remedy="Find them with hw.fit(subject, fix, task), or give sink_dims=.",
                )
            dimensions, source = published[2], f"table: {published[0]}"
        if max(dimensions) >= model.width:
            raise FixError(
                f"sink_dims names dimension {max(dimensions)}, which this model does not have.",
                evidence=f"its residual stream has {model.width}, 0 to {model.width - 1}",
            )
        tau = SHARE_OF_BOUND * sqrt(model.width) if self.tau == "auto" else float(self.tau)
        if tau > sqrt(model.width):
            raise FixError(
                f"No token of this model can reach tau = {tau:g}.",
                evidence=f"a score is at most the root of the width, {sqrt(model.width):.3g}",
                remedy='Use tau="auto".',
            )
        return replace(self, layers=layers, sink_dims=dimensions, tau=tau, source=source)

    def fit(self, subject: Subject, data: Calibration) -> VAR:
        """The same with the sink dimensions of a model: those in which <bos> stands out."""
        from headwise.fixes.methods._sink_dimensions import find_sink_dimensions

        layers = None if self.layers is None else tuple(self.layers)
        dimensions, source = find_sink_dimensions(subject, data, layers=layers, tau=self.tau)
        return replace(self, sink_dims=dimensions, source=source)

    @property
    def piecewise(self) -> bool:
        """True: sinks are found as the prompt comes, and `edit_residual` refuses those that come too late."""
        return True

    @property
    def residual_in_prompt_only(self) -> bool:
        """True: generated tokens need not be looked at."""
        return True

    def begin(self, prompt: PromptContext) -> None:
        """Refuses a prompt without image."""
        require_images(self, prompt, skip=self.no_image == "skip")

    def edit_residual(
        self, residual: Float[Tensor, "batch query width"], site: Site, context: Context
    ) -> Float[Tensor, "batch query width"]:
        """Looks for sinks among the new tokens of the prompt; the residual stays as it is."""
        memory, name, batch = context.memory, ("sinks", site.layer), len(residual)
        start = context.run.past
        stop = min(start + residual.shape[1], context.prompt_length)
        known = memory.of(name, batch).shape[1] if name in memory else 0
        if stop <= known:
            return residual
        assert self.sink_dims is not None
        fresh = max(known, start)
        score = sink_score(residual[:, fresh - start : stop - start], self.sink_dims)
        tau = float(self.tau)
        found = score > tau if self.variant == "released" else score >= tau
        before = found.new_zeros(batch, fresh)
        if known:
            before[:, :known] = memory.of(name, batch)
        image = context.have_role("image", batch)[:, :stop].to(residual.device)
        valid = context.run.axis(context.tower, batch, stop).valid[:, :stop].to(residual.device)
        sinks = torch.cat([before, found], 1) & valid
        if known and self.require_visual_sink:
            late = ~(image & sinks)[:, :known].any(1) & (image & sinks).any(1)
            if bool((late & memory.of("rows", batch)[:, :known].any(1)).any()):
                raise in_pieces(
                    "VAR", f"a first sink of an image behind {known} positions that were read without"
                )
        memory[name] = sinks
        memory["weights", site.layer] = weights_of(
            image, sinks, p=self.p, rho=self.rho, require_visual_sink=self.require_visual_sink
        )
        memory["bias"] = bias_of(memory.of(("weights", site.layer), batch), self.least_mass)
        memory["rows"] = context.text_behind_image(batch)[:, :stop].to(residual.device)
        return residual

    def rows(self, context: Context, batch: int) -> range | Int[Tensor, " row"]:
        """All rows of text behind the first image token of the batch, and all generated ones."""
        if context.run.past >= context.prompt_length:
            return range(context.run.past, 2**62)
        behind = context.text_behind_image(batch).any(0)
        generated = torch.arange(context.prompt_length, max(context.prompt_length, context.run.length))
        return torch.cat([behind.nonzero()[:, 0], generated]).to(context.positions.device)

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern with attention moved from sinks to the rest of the image."""
        batch, memory = len(pattern), context.memory
        if ("weights", site.layer) not in memory:
            return pattern
        rows = None
        if context.run.past < context.prompt_length:
            text = memory.of("rows", batch)
            at = context.positions
            rows = text[:, at.clamp_max(text.shape[1] - 1)] | (at >= text.shape[1])
        weights = memory.of(("weights", site.layer), batch)
        change = change_of(pattern, weights, memory.of("bias", batch), rows=rows)
        if pattern.requires_grad or pattern.dtype != change.dtype:
            return grown(pattern, change)
        part = pattern[..., : change.shape[-1]]
        part.addcmul_(part, change)
        return pattern


def _published(model: ModelInfo) -> tuple[str, Shape, tuple[int, ...]] | None:
    """The row of the published sink dimensions for a model."""
    return next((row for row in SINK_DIMENSIONS if row[1].fits(model)), None)
