"""ACT: attention calibration by hidden sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import FixError, NotFitted
from headwise.fixes.arguments import (
    Heads,
    as_heads,
    as_numbers,
    as_text,
    between,
    finite,
    one_of,
    whole_number,
)
from headwise.fixes.head_search import search_heads
from headwise.fixes.methods._columns import Columns
from headwise.functional.redistribution import calibrate
from headwise.probes.attach.sites import Site
from headwise.probes.context import Context
from headwise.subject.calibration import Calibration
from headwise.subject.info import ModelInfo

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class ACT:
    """Attention calibration: in chosen heads, less attention for later tokens that draw too much of it.

    Besides the first token, later tokens of little meaning draw attention in many heads. A token is such a sink for a
    row when the mean attention that it gets from the rows that see it, up to this one, exceeds `alpha / n`, with n
    the keys that the row sees. The attention of the row on sinks is multiplied by `beta`, and what is freed goes to
    the other keys in proportion (`calibrate`). The first token is never a sink. Which heads to calibrate is found
    once: `hw.fit(subject, ACT(), task)` keeps those that, calibrated alone, raise the score on held-out examples.

    Yu et al., "Unveiling and Harnessing Hidden Attention Sinks" (ICML 2024); the code is GATECH-EIC/ACT. The full
    paper was not at hand. Ours: causal means, decoding, `min_rows`, the decision rule for heads.

    Args:
        beta: what is left of the attention on sinks, 0 to 1; 1 changes nothing, bit for bit.
        alpha: 5 in the paper, which tries 3, 5 and 7.
        tau: threshold of its own instead of alpha / n, as in the code (0.1 or 0.15).
        heads: (layer, head) pairs; found by `hw.fit` when None.
        layers: layers that `fit` looks at; 2 to the last but one when None.
        mode: "causal": a row depends on what it sees. "full", the paper's: means over all rows of the call, so that
            rows depend on later ones (`leaks_future`); only the last row is then a fair prediction.
        decode: "running": generated rows are calibrated with running means. "off": only the prompt is, as in the code.
        min_rows: a key that fewer rows have seen is no sink (ours): it may only have looked at itself.
        variant: "released" follows the released code where it differs: full means of all rows, tau = 0.1, decoding
            off, `min_rows` 1, and spared is the first sink found rather than the first token. Its bugs (only the first
            example of a batch, row 0 set to 1) are not followed.
        rule: how `fit` decides on a head: "significant" takes gains with p below 0.05 after correction for all heads
            that are tried (`headwise.fixes.head_search.better`), "improves" any gain, much of it chance.
        source: how `heads` were found, for the record.

    Raises:
        FixError: a parameter out of range.
        NotFitted: in `hw.patch`, no heads.

    Example:
        >>> ACT(heads=((2, 0), (2, 3)), beta=0.5).heads
        ((2, 0), (2, 3))
    """

    space: ClassVar[Mapping[str, tuple[float, float]]] = {"beta": (0.0, 1.0)}

    beta: float = 0.4
    alpha: float = 5.0
    tau: float | None = None
    heads: Heads | None = None
    layers: tuple[int, ...] | None = None
    mode: Literal["causal", "full"] = "causal"
    decode: Literal["running", "off"] = "running"
    min_rows: int = 4
    variant: Literal["paper", "released"] = "paper"
    rule: Literal["significant", "improves"] = "significant"
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "beta", between(self.beta, "beta", 0.0, 1.0))
        put(self, "alpha", finite(self.alpha, "alpha"))
        if self.alpha <= 0:
            raise FixError("alpha must be above 0.", evidence=f"got {self.alpha:g}")
        if self.tau is not None:
            put(self, "tau", between(self.tau, "tau", 0.0, 1.0))
        if self.heads is not None:
            put(self, "heads", as_heads(self.heads))
        if self.layers is not None:
            put(self, "layers", as_numbers(self.layers, "layers"))
        whole_number(self.min_rows, "min_rows", 1, 2**31)
        one_of(self.mode, "mode", ("causal", "full"))
        one_of(self.decode, "decode", ("running", "off"))
        one_of(self.variant, "variant", ("paper", "released"))
        one_of(self.rule, "rule", ("significant", "improves"))
        as_text(self.source, "source")
        if self.variant == "released":
            released = {"mode": "full", "decode": "off", "min_rows": 1}
            for name, value in released.items():
                put(self, name, value)
            put(self, "tau", 0.1 if self.tau is None else self.tau)

    @property
    def neutral(self) -> bool:
        """True when nothing changes."""
        return self.beta == 1.0 or (self.heads is not None and not self.heads)

    @property
    def leaks_future(self) -> bool:
        """True when a row of the prompt depends on later ones."""
        return self.mode == "full"

    @property
    def needs_all_rows(self) -> bool:
        """True when all rows are needed before the first can be changed."""
        return self.mode == "full"

    @cached_property
    def _of_layer(self) -> dict[int, list[int]]:
        """The chosen heads of every layer."""
        layers = {layer for layer, _ in self.heads or ()}
        return {layer: sorted({head for at, head in self.heads or () if at == layer}) for layer in layers}

    def missing_constants(self, model: ModelInfo) -> tuple[str, ...]:
        """The heads, until they are found."""
        return ("heads",) if self.heads is None and not self.neutral else ()

    def bind(self, model: ModelInfo) -> ACT:
        """The same, if it has heads."""
        if self.neutral:
            return self
        if self.missing_constants(model):
            raise NotFitted(
                "ACT does not know which heads to calibrate in this model.",
                evidence=model.name,
                remedy="Find them with hw.fit(subject, fix, task), or give heads=.",
            )
        # `layers` says where `fit` looks; the heads may be anywhere.
        return self if self.layers is None else replace(self, layers=None)

    def fit(self, subject: Subject, data: Calibration) -> ACT:
        """The same with the heads that raise the score on held-out examples when they are calibrated alone."""

        def alone(layer: int, head: int) -> ACT:
            return replace(self, heads=((layer, head),), layers=None)

        heads, source = search_heads(subject, data, alone, layers=self.layers, rule=self.rule)
        return replace(self, heads=heads, layers=None, source=source)

    def edit(
        self, pattern: Float[Tensor, "batch head query key"], site: Site, context: Context
    ) -> Float[Tensor, "batch head query key"]:
        """The pattern with less attention on sinks."""
        count = pattern.shape[1]
        chosen = self._of_layer.get(site.layer)
        if not chosen:
            return pattern
        index = None
        if len(chosen) < count:
            name = ("heads", site.layer)
            if name not in context.memory:
                context.memory[name] = torch.tensor([chosen], device=pattern.device)
            index = context.memory.of(name, 1)[0]
        rows = pattern if index is None else pattern.index_select(1, index)
        prompt = context.prompt_length - int(context.positions[0])
        if prompt <= 0 or prompt >= rows.shape[2]:
            changed = self._calibrated(rows, site, context, generated=prompt <= 0)
        else:  # decoding without a cache: prompt and generated rows in one call
            parts = (slice(0, prompt), slice(prompt, rows.shape[2]))
            calls = [(rows[:, :, part], context.part(part), part.start > 0) for part in parts]
            changed = torch.cat(
                [self._calibrated(some, site, here, generated=behind) for some, here, behind in calls], dim=2
            )
        if changed is rows:
            return pattern
        return changed if index is None else pattern.index_copy_(1, index, changed)

    def _calibrated(self, rows: Tensor, site: Site, context: Context, *, generated: bool) -> Tensor:
        """Rows of the chosen heads, either of the prompt or generated."""
        if generated and self.decode == "off":
            return rows
        columns = Columns(rows, site, context, spare_first=self.variant == "paper")
        sinks = columns.sinks(
            alpha=self.alpha,
            tau=self.tau,
            min_rows=self.min_rows,
            full=self.mode == "full" and not generated,
        )
        if not bool(sinks.any()):
            return rows
        changed = calibrate(rows, sinks, beta=self.beta)
        return changed if columns.invalid is None else torch.where(columns.invalid, rows, changed)
