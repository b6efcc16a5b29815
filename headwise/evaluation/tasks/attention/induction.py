"""Induction: does a head look at what followed the same token before?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance
from headwise.evaluation.task import Metric, Response, Solver, mean
from headwise.evaluation.tasks.language.recall import Repeated, repeated_batches
from headwise.functional.induction import induction_score
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.text import head_name

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Induction(Repeated):
    """Does a head look, in a repeated random sequence, at what followed the same token the first time?

    The induction score of a head is its mean attention from every token of the second copy to the token after
    that token's first occurrence (Olsson et al. 2022, "In-context Learning and Induction Heads"). `best` is
    the largest over all heads of the text tower, 0 to 1; one key in 51 gives 0.02 to a flat head.

    Example:
        >>> import headwise as hw
        >>> 0 <= hw.evaluate(hw.load("zoo:lm@early"), "induction", n=2).value <= 1
        True
    """

    name: ClassVar[str] = "induction"
    guards: ClassVar[tuple[str, ...]] = ()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Score of the best head."""
        return (mean("best"),)

    @property
    def solver(self) -> Solver:
        """By a capture of the patterns."""
        return _InductionSolver(self.period)

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """Sequences are drawn from the model's own vocabulary when it is asked."""
        return [
            Example(f"induction/{seed}/{number}", {}, "", {"seed": f"{seed}/{number}"})
            for number in range(n or 100)
        ]

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Sequences from seeds that `draw` never uses."""
        ids = [f"induction/validation/{seed}/{number}" for number in range(n)]
        return [Example(id, {}, "", {"seed": id}) for id in ids]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Score of the best head, and which it is."""
        return dict(response.metadata)


@dataclass(frozen=True)
class _InductionSolver:
    period: int

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        responses = []
        for inputs, first in repeated_batches(subject, examples, self.period, batch_size):
            with capture(subject, stats=False, maps=True, check=not responses) as trace:
                run_model(subject, inputs)
            sites = [site for site in trace.maps if (site.tower, site.kind) == ("text", "self")]
            if not sites:
                name = type(subject.model).__name__
                raise InputError("Induction needs a decoder-only model.", evidence=name)
            scores = torch.cat(
                [induction_score(trace.maps[site], period=self.period, first=first) for site in sites], 1
            )
            heads = [
                head_name(site.layer, head) for site in sites for head in range(trace.maps[site].shape[1])
            ]
            for row in scores:
                best = int(row.argmax())
                seen = {"best": float(row[best]), "head": heads[best]}
                responses.append(Response("", self.period, {}, seen))
            advance(len(scores))
        return responses

    def manifest(self) -> dict[str, Any]:
        return {"asked": "patterns", "period": self.period}
