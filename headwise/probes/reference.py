"""A session that runs a model's own eager attention and keeps the patterns it returns."""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn

from headwise.probes import interface
from headwise.probes.session import Session
from headwise.probes.sites import Site


class Reference(Session):
    """What headwise is measured against: the patterns of the model file's own eager function, call by call."""

    def __init__(self, model: Any, processor: Any, language: str) -> None:
        super().__init__(model, processor, language)
        self.thread = threading.get_ident()
        self.patterns: dict[Site, list[Tensor | None]] = {}

    def attend(
        self, site: Site, module: nn.Module, *arguments: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """One attention call, the model's own way."""
        z, pattern = interface.eager_function(module)(module, *arguments, **kwargs)
        self.patterns.setdefault(site, []).append(pattern)
        return z, pattern
