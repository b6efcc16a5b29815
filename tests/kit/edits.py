"""Third parties' fixes: objects with nothing but `edit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from headwise import Site


class Identity:
    """Changes nothing, and does not say so."""

    def edit(self, pattern: torch.Tensor, site: Site, context: Any) -> torch.Tensor:
        return pattern


class Copy:
    """As `Identity`, in a new tensor."""

    def edit(self, pattern: torch.Tensor, site: Site, context: Any) -> torch.Tensor:
        return pattern.clone()


class FirstKey:
    """Makes every row look at nothing but the first key it sees."""

    def __init__(self, *, in_place: bool = False) -> None:
        self.in_place = in_place

    def edit(self, pattern: torch.Tensor, site: Site, context: Any) -> torch.Tensor:
        new = pattern if self.in_place else pattern.clone()
        first = pattern.gt(0).byte().argmax(-1, keepdim=True)
        return new.zero_().scatter_(-1, first, 1.0)
