"""Sessions that hold the engine against the model's own attention."""

from __future__ import annotations

import threading
from math import isnan
from typing import Any

from torch import Tensor, nn

from headwise.probes.attach import interface
from headwise.probes.attach.sites import AttentionModule, Site
from headwise.probes.engine.session import Session
from headwise.probes.generation.generation import Generation
from headwise.probes.kernels.windows import Window, blocks
from headwise.probes.trace.options import CaptureOptions


class Reference(Session):
    """Reference for headwise: the patterns of the model file's own eager function, call by call."""

    def __init__(self, model: Any, processor: Any, language: str) -> None:
        super().__init__(model, processor, language)
        self.thread = threading.get_ident()
        self.patterns: dict[Site, list[Tensor | None]] = {}

    def concerns(self, entry: AttentionModule, language: str) -> bool:
        """Every module is compared."""
        return True

    def attend(
        self, site: Site, window: Window | None, module: nn.Module, *arguments: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """One attention call, the model's own way; windows are put together."""
        z, pattern = interface.eager_function(module)(module, *arguments, **kwargs)
        patterns = self.patterns.setdefault(site, [])
        if window is None or pattern is None:
            patterns.append(pattern)
        else:
            patterns.append(blocks(patterns.pop() if window.start else None, pattern, window))
        return z, pattern


class Comparison(Session):
    """A capture that runs the model's own kernel beside the engine, and notes how far they are apart, call by call."""

    compares = True

    def __init__(self, model: Any, processor: Any, language: str, *, options: CaptureOptions) -> None:
        super().__init__(model, processor, language, options=options)
        self.language = language
        self.differences: dict[Site, float] = {}

    @property
    def runs(self) -> list[Generation]:
        """The runs that something was recorded of."""
        return [run for tracker in self.trackers for run in tracker.runs if run.buffers]

    def compare(self, site: Site, native: Tensor, engine: Tensor, real: Tensor | None) -> None:
        """Notes the largest difference of per-head outputs on real rows, relative to the largest output."""
        native, engine = native.detach().float(), engine.detach().float()
        if real is not None:
            native, engine = native[real], engine[real]
        largest = native.abs().max().clamp_min(1e-6) if native.numel() else 1.0
        difference = float((native - engine).abs().max() / largest) if native.numel() else 0.0
        before = self.differences.get(site, 0.0)
        self.differences[site] = difference if not isnan(before) and not difference <= before else before

    def problem(self, limit: float) -> str:
        """The first site, in the order of the calls, that differs by more than `limit`; empty when none does."""
        for site, difference in self.differences.items():
            if not difference <= limit:
                return (
                    f"attention differs by {difference:.2g} of its largest output in {site} ({site.module})"
                )
        return ""
