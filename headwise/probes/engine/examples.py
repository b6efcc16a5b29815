"""Patches of some examples of a batch: which rows of a tensor are theirs, and how the others stay as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from headwise.errors import FixError

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session
    from headwise.probes.generation.generate_call import GenerateCall


def copies_of(call: GenerateCall | None) -> int:
    """Rows of a decoder's batch that stand for one example: its hypotheses in a beam search, or its several replies."""
    if call is None:
        return 1
    return max(int(call.option(name) or 1) for name in ("num_beams", "num_return_sequences"))


def chosen(session: Session, tower: str, rows: int, device: torch.device) -> Bool[Tensor, " example"]:
    """True on the rows of a batch that a session acts on.

    Raises:
        FixError: it names an example that the batch does not have.
    """
    tracker = session.tracker()
    copies = (
        session.followed.copies if tower == tracker.language and rows % session.followed.copies == 0 else 1
    )

    def find() -> Tensor:
        last, origin = max(session.examples or ()), None
        if tower == tracker.language and tracker.run is not None:
            origin = tracker.run.origin  # where examples of the cache were reordered, left out or copied
        if origin is not None and len(origin) != rows:
            origin = None
        if origin is None and last >= rows // copies:
            raise FixError(
                f"A patch is for example {last}, which this batch does not have.",
                evidence=f"{rows // copies} examples",
                remedy="Patch each request with examples of its own, scope='thread'.",
            )
        origins = torch.arange(rows) if origin is None else origin
        examples_of_rows = origins.to(device) // copies
        return torch.isin(examples_of_rows, torch.tensor(session.examples, device=device))

    return tracker.once(("examples", id(session), tower, rows), find)


def keep_others(
    session: Session, tower: str, new: Shaped[Tensor, "example ..."], old: Shaped[Tensor, "example ..."]
) -> Shaped[Tensor, "example ..."]:
    """Result of a step of a fix, with every example that the session is not for as it was."""
    if session.examples is None or new is old:
        return new
    mine = chosen(session, tower, len(old), old.device)
    return torch.where(mine.view(-1, *(1 for _ in old.shape[1:])), new, old)
