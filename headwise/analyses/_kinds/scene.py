"""A model with the examples that the importance of its heads is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from headwise.analyses._kinds.ablation import Gates, Head, Place, Question, losses, questions
from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model

if TYPE_CHECKING:
    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject

Estimator = Literal["zero", "mean", "resample", "gradient", "gradient per position"]
CHEAP: tuple[Estimator, ...] = ("gradient", "gradient per position")
"""Estimators of one forward and backward per example; the others run the model for every head."""


class Scene:
    """A model with the examples that importance is measured on, read once."""

    def __init__(
        self, subject: Subject, examples: Sequence[Mapping[str, Any]], kind: str, size: int, name: str
    ) -> None:
        """`size` sets of heads run side by side.

        Raises:
            InputError: that is none, an example has no loss, or there is no such attention.
        """
        if size < 1:
            raise InputError("One head or more is replaced at a time.", evidence=f"batch_size={size}")
        self.size = size
        self.subject = subject
        self.asked: list[Question] = questions(subject, examples, name)
        with capture(subject, stats=False, heads=True) as trace:
            for question in self.asked:
                run_model(subject, question.inputs)
        self.trace: Trace = trace
        tower = "decoder" if subject.config.is_encoder_decoder else "text"
        self.sites: list[Site] = [site for site in trace.heads if (site.tower, site.kind) == (tower, kind)]
        if not self.sites:
            raise InputError(
                f"{name} found no heads of {kind}-attention in the {tower} tower whose output could be replaced.",
                evidence=", ".join(sorted({f"{site.tower} {site.kind}" for site in trace.sites})),
                remedy='Use kind="self".' if kind == "cross" else "",
            )
        self.heads = [(site, head) for site in self.sites for head in range(trace.heads[site].shape[2])]
        self.tower, self.kind = tower, kind

    def place(self, index: int) -> Head:
        """A head, as the fixes name it."""
        site, head = self.heads[index]
        return site.layer, site.call, head

    def importance(self, estimator: Estimator) -> np.ndarray:
        """(head,) nats per token."""
        if estimator in CHEAP:
            return self._by_gradient(per_position=estimator != "gradient")
        if estimator == "resample" and self.asked[-1].example == 0:
            raise InputError(
                "Resampling takes a head's output from another example.", remedy="Give two examples or more."
            )
        alone = [[self.place(index)] for index in range(len(self.heads))]
        changes = []
        for number, question in enumerate(self.asked):
            values = self._values(estimator, number)
            replaced = losses(
                self.subject, question, alone, self.size, values=values, tower=self.tower, kind=self.kind
            )
            plain = losses(self.subject, question, [[]], self.size, tower=self.tower, kind=self.kind)
            changes.append((replaced - plain).double().numpy())
        return np.mean(changes, axis=0)

    def mean_loss(self, sets: Sequence[Sequence[Head]]) -> np.ndarray:
        """(set,) loss with each set of heads at 0, mean over examples."""
        found = [
            losses(self.subject, one, sets, self.size, tower=self.tower, kind=self.kind) for one in self.asked
        ]
        return torch.stack(found).double().mean(0).numpy()

    def _values(self, estimator: str, number: int) -> dict[Place, Tensor]:
        if estimator == "zero":
            return {}
        found = {}
        for site in self.sites:
            z = self.trace.heads[site]
            other = z if estimator == "mean" else z[[self._next(number)]]
            rows = other.flatten(0, 1)
            rows = rows[~rows.isnan().flatten(1).any(1)]
            found[site.layer, site.call] = rows.mean(0, keepdim=True) if estimator == "mean" else rows
        return found

    def _next(self, number: int) -> int:
        """The first question about the next example."""
        wanted = (self.asked[number].example + 1) % (self.asked[-1].example + 1)
        return next(place for place, question in enumerate(self.asked) if question.example == wanted)

    def _by_gradient(self, *, per_position: bool) -> np.ndarray:
        changes = []
        for question in self.asked:
            gates = Gates(tower=self.tower, kind=self.kind)
            with torch.enable_grad(), patch(self.subject, gates):
                loss = question.loss(self.subject).sum()
                flat = [gate for parts in gates.gates.values() for gate in parts]
                slopes = dict(zip(map(id, flat), torch.autograd.grad(loss, flat), strict=True))
            own = []
            for site in self.sites:
                slope = torch.cat([slopes[id(gate)] for gate in gates.gates[site.layer, site.call]]).double()
                own.append(slope.abs().sum(0) if per_position else slope.sum(0).abs())
            changes.append(torch.cat(own).cpu().numpy())
        return np.mean(changes, axis=0)
