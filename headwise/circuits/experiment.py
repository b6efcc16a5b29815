"""A model with the pairs of a task: runs that all methods share, and what the task is worth in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headwise.circuits.pairs import Batch, PairSet, batches, joined
from headwise.circuits.stream.find import stream_graph
from headwise.circuits.stream.graph import StreamGraph
from headwise.circuits.stream.runs import Writes, last_logits, record
from headwise.errors import InputError
from headwise.functional.answers import log_probability, logit_difference
from headwise.model.device import input_device

if TYPE_CHECKING:
    from headwise.circuits.stream.slopes import Metric
    from headwise.subject import Subject

MetricName = Literal["logit_difference", "log_probability"]
METRICS = MappingProxyType({"logit_difference": logit_difference, "log_probability": log_probability})
"""Of a right and a wrong answer at the last position: see `headwise.functional.answers`."""
LEAST = 1e-6
"""Clean and corrupted prompts that differ by less in the metric have nothing to find."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch with what senders write on its corrupted prompts."""

    batch: Batch
    corrupted: Writes


class Experiment:
    """A model and a task.

    Args:
        subject: the model with its processor.
        pairs: the task.
        metric: one of `METRICS`.
        batch_size: pairs that run side by side.
        check: refuse a model that does not do the task.

    Raises:
        InputError: the model is in training mode, the corruption does not matter to it, or it prefers the wrong answer
            as often as the right one.
    """

    def __init__(
        self,
        subject: Subject,
        pairs: PairSet,
        *,
        metric: MetricName = "logit_difference",
        batch_size: int = 16,
        check: bool = True,
    ) -> None:
        self.subject, self.pairs, self.metric, self.size = subject, pairs, metric, batch_size
        self.model: Any = subject.model
        if self.model.training:
            raise InputError(
                "The model is in training mode: dropout would be taken for an effect.",
                remedy="Call model.eval().",
            )
        self.device = input_device(self.model)
        if check:
            require_task(self)

    @cached_property
    def graph(self) -> StreamGraph:
        """Writers and readers of its residual streams."""
        return stream_graph(self.model, next(batches(self.pairs[:1], 1, self.device)).clean)

    def batches(self) -> Iterator[Batch]:
        """The pairs in batches."""
        return batches(self.pairs, self.size, self.device)

    def prepared(self) -> Iterator[Prepared]:
        """The same, with what is written on the corrupted prompts."""
        for batch in self.batches():
            yield Prepared(batch, record(self.model, self.graph, batch.corrupted)[0])

    def copies(
        self, batch: Batch, count: int, which: str = "clean"
    ) -> tuple[dict[str, Any], Int[Tensor, " row"]]:
        """Every prompt of a batch `count` times, one after the other, and the pair in the batch of every row."""
        prompts = getattr(self.pairs, which)
        rows = [prompts[number] for number in batch.numbers for _ in range(count)]
        places = torch.arange(len(batch), device=self.device).repeat_interleave(count)
        return joined(rows, self.device), places

    def values(
        self, logits: Float[Tensor, "row word"], batch: Batch, rows: Int[Tensor, " row"] | None = None
    ) -> Float[Tensor, " row"]:
        """The metric of some rows; `rows` are their pairs in the batch."""
        right, wrong = batch.correct, batch.wrong
        if rows is not None:
            right, wrong = right[rows], wrong[rows]
        return METRICS[self.metric](logits, right, wrong)

    def metric_of(self, batch: Batch) -> Metric:
        """The metric of a batch as a function of its logits."""
        return partial(self.values, batch=batch)

    @cached_property
    def clean(self) -> Float[Tensor, " pair"]:
        """The metric on the clean prompts."""
        return self._plain("clean")

    @cached_property
    def corrupted(self) -> Float[Tensor, " pair"]:
        """The metric, of the same answers, on the corrupted prompts."""
        return self._plain("corrupted")

    def _plain(self, which: str) -> Float[Tensor, " pair"]:
        found = torch.empty(len(self.pairs))
        with torch.no_grad():
            for batch in self.batches():
                logits = last_logits(self.model, getattr(batch, which))
                found[list(batch.numbers)] = self.values(logits, batch).float().cpu()
        return found

    def about(self) -> Mapping[str, Any]:
        """What was asked of the model, and how it does."""
        clean, corrupted = float(self.clean.mean()), float(self.corrupted.mean())
        return {
            "task": self.pairs.name,
            "pairs": len(self.pairs),
            "metric": self.metric,
            "corruption": self.pairs.corruption,
            "clean": clean,
            "corrupted": corrupted,
        }


def require_task(experiment: Experiment) -> None:
    """Refuse a model that does not do the task, and a corruption that takes nothing away."""
    clean, corrupted = experiment.clean, experiment.corrupted
    name = experiment.pairs.name
    preferred = float((clean > 0).float().mean())
    if experiment.metric == "logit_difference" and (preferred <= 0.5 or float(clean.mean()) <= 0):
        raise InputError(
            f"The model does not do {name}, so that no circuit of it can be found.",
            evidence=f"it prefers the right answer in {preferred:.0%} of {len(clean)} pairs, by {clean.mean():.3g} on "
            "average; chance is 50%",
            remedy="Use a model or a task that fit, or check=False to look all the same.",
        )
    if abs(float((clean - corrupted).mean())) < LEAST:
        raise InputError(
            f"The corruption of {name} does not matter to the model.",
            evidence=f"{experiment.metric} is {clean.mean():.4g} on clean and on corrupted prompts",
            remedy="Corrupt what the answer depends on.",
        )
