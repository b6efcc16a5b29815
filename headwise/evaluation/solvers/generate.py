"""Responses that a model writes, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance, batches, prepared
from headwise.evaluation.task import Response
from headwise.model.loading import quiet
from headwise.model.tokenizing import decoded
from headwise.probes.run_examples import new_tokens, run_model

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True)
class Generate:
    """Let the model write, greedily unless `beams` says otherwise.

    A task that needs more says so by a subclass: `options` adds arguments of `generate` (the language to
    translate into), `group` keeps examples that need different ones out of one batch.
    """

    max_new_tokens: int
    beams: int = 1

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        if not subject.model.can_generate():
            raise InputError("This model generates nothing.", evidence=type(subject.model).__name__)
        responses: dict[int, Response] = {}
        for indices in batches(subject, examples, batch_size, self.group):
            chosen = [examples[index] for index in indices]
            inputs = self.prepare(subject, chosen)
            options = self.options(subject, chosen)
            with quiet():
                written = run_model(subject, inputs, self.max_new_tokens, num_beams=self.beams, **options)
            for index, response in zip(indices, self.responses(subject, inputs, written), strict=True):
                responses[index] = response
            advance(len(indices))
        return [responses[index] for index in range(len(examples))]

    def prepare(self, subject: Subject, examples: Sequence[Example]) -> Any:
        """The tensors of a batch."""
        inputs = prepared(subject, examples)
        if subject.config.is_encoder_decoder:
            inputs.pop("decoder_input_ids", None)  # generate begins by itself
        return inputs

    def options(self, subject: Subject, examples: Sequence[Example]) -> dict[str, Any]:
        """Further arguments of `generate` for this batch."""
        return {}

    def group(self, example: Example) -> Any:
        """Examples of different groups never share a batch; the value must sort."""
        return ""

    def responses(self, subject: Subject, inputs: Any, written: Tensor) -> list[Response]:
        """What was written after the prompt, without special tokens."""
        tokenizer = subject.tokenizer
        special = set(tokenizer.all_special_ids)
        return [
            Response(
                decoded(tokenizer, row, skip_special_tokens=True).strip(),
                sum(token not in special for token in row.tolist()),
            )
            for row in new_tokens(subject, inputs, written)
        ]

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "generate", "do_sample": False, **asdict(self)}
