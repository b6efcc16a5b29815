"""Candidates scored by the next-token distribution of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import (
    Advance,
    batches,
    continuation,
    continues,
    padded_right,
    prepared,
)
from headwise.evaluation.task import Response
from headwise.model.tokenizing import decoded
from headwise.probes.run_examples import run_model

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True)
class MultipleChoice:
    """Read the distribution of the next token, and score the candidates of `example.metadata["candidates"]`.

    A candidate is written as it continues the prompt (" Mary", with its space). One of several tokens is
    scored by the sum of their log-probabilities. `response.text` is the most probable token of the whole
    vocabulary, and `response.metadata["said"]` the candidate that it begins (the best of them, "" for none): what
    the model says when nobody restricts it.
    """

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        if not continues(subject):
            raise InputError(
                "Choosing needs a decoder with a tokenizer.", evidence=type(subject.model).__name__
            )
        subject = padded_right(subject)
        responses: dict[int, Response] = {}
        for indices in batches(subject, examples, batch_size):
            chosen = [examples[index] for index in indices]
            first = _next_token(subject, prepared(subject, chosen))
            for row, (index, example) in enumerate(zip(indices, chosen, strict=True)):
                responses[index] = self._response(subject, example, first[row])
            advance(len(indices))
        return [responses[index] for index in range(len(examples))]

    def _response(self, subject: Subject, example: Example, first: Tensor) -> Response:
        """From the log-probabilities (word,) of what follows the prompt."""
        best = int(first.argmax())
        scores, begun = {}, {}
        for candidate in example.metadata["candidates"]:
            ids = continuation(subject, example.inputs["text"], candidate)
            scores[candidate] = float(first[ids[0]]) if len(ids) == 1 else _continued(subject, example, ids)
            if ids[0] == best:
                begun[candidate] = scores[candidate]
        choice = max(begun, key=lambda candidate: begun[candidate], default="")
        return Response(decoded(subject.tokenizer, [best]), 1, scores, {"said": choice})

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "choose", "scored": "sum of log-probabilities of the candidate's tokens"}


def _next_token(subject: Subject, inputs: Any) -> Tensor:
    """Log-probabilities (example, word) of what follows the last token of every row."""
    mask = inputs["attention_mask"].bool()
    last = mask.shape[1] - 1 - mask.flip(-1).int().argmax(-1)
    logits = run_model(subject, inputs).logits
    return logits[torch.arange(len(last)), last].float().log_softmax(-1)


def _continued(subject: Subject, example: Example, ids: list[int]) -> float:
    """Log-probability of `ids` after the example's prompt."""
    inputs = prepared(subject, [example])
    start = inputs["input_ids"].shape[1]
    more = torch.tensor([ids], device=inputs["input_ids"].device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more], -1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(more)], -1)
    logits = run_model(subject, inputs).logits[0, start - 1 : -1].float().log_softmax(-1)
    return float(logits.gather(-1, more[0, :, None]).sum())
