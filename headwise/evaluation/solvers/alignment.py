"""Ask a translation model which words it looks at while it is given the right translation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance, batches
from headwise.evaluation.solvers.cross_attention import check_heads, cross_attention
from headwise.evaluation.task import Response
from headwise.model.tokenizing import encoded
from headwise.subject.languages import set_languages

if TYPE_CHECKING:
    from headwise.subject import Subject

Spans = Sequence[Sequence[int]]
"""First and past-the-end character of every word."""
Rows = Literal["consume", "predict"]


@dataclass(frozen=True)
class CrossAttentionAlignment:
    """The response's `metadata` holds `links`, pairs (source word, target word) from 0, and where they were read.

    Every target word is linked to the source word that gets the most weight: summed over the tokens of the
    source word, averaged over those of the target word and over heads.
    """

    heads: tuple[tuple[int, int], ...]
    layer: int | None
    rows: Rows
    choose: Callable[[Sequence[Example], Sequence[Response]], float] | None = None
    """Error of responses to `trial`; the layer with the least is taken. None takes the last but one."""
    trial: tuple[Example, ...] = ()

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        layer = self.layer
        if not self.heads and layer is None and self.choose is not None:
            tried = self._ask(subject, self.trial, None, batch_size, lambda more: None)
            errors = {
                number: self.choose(self.trial, [found[number] for found in tried]) for number in tried[0]
            }
            layer = min(errors, key=lambda number: errors[number])
        return [
            found[sorted(found)[-2:][0]]  # the last but one of several
            for found in self._ask(subject, examples, layer, batch_size, advance)
        ]

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        chosen = "chosen on other examples" if self.choose else "last but one"
        return {
            "asked": "cross-attention, right translation given",
            "rows": self.rows,
            "heads": [list(head) for head in self.heads] or "all of the layer",
            "layer": chosen if self.layer is None and not self.heads else self.layer,
        }

    def _ask(
        self,
        subject: Subject,
        examples: Sequence[Example],
        layer: int | None,
        batch_size: int,
        advance: Advance,
    ) -> list[dict[int, Response]]:
        """By layer: all of them where `layer` is None."""
        found: dict[int, dict[int, Response]] = {}
        for indices in batches(subject, examples, batch_size, _languages):
            chosen = [examples[index] for index in indices]
            set_languages(subject.tokenizer, *_languages(chosen[0]))
            texts = [example.inputs["text"] for example in chosen]
            inputs = subject.prepare(text=texts, target=[example.answer for example in chosen])
            maps = cross_attention(subject, inputs, check=not found)
            averages = self._averages(maps, layer)
            for place, (index, example) in enumerate(zip(indices, chosen, strict=True)):
                found[index] = {
                    number: self._response(subject, example, inputs, weights[place].cpu(), place, number)
                    for number, weights in averages.items()
                }
            advance(len(indices))
        return [found[index] for index in range(len(examples))]

    def _averages(self, maps: dict[int, Tensor], layer: int | None) -> dict[int, Tensor]:
        """Weights (example, query, key) by layer; -1 stands for chosen heads of several."""
        if self.heads:
            check_heads(self.heads, maps)
            return {-1: torch.stack([maps[number][:, head] for number, head in self.heads]).mean(0)}
        if layer is None:
            return {number: weights.mean(1) for number, weights in maps.items()}
        number = layer + len(maps) if layer < 0 else layer
        check_heads(((number, 0),), maps)
        return {number: maps[number].mean(1)}

    def _response(
        self,
        subject: Subject,
        example: Example,
        inputs: Any,
        weights: Float[Tensor, "query key"],
        place: int,
        layer: int,
    ) -> Response:
        text, answer = example.inputs["text"], example.answer
        real = inputs["attention_mask"][place].bool().cpu()
        decoder = inputs["decoder_input_ids"][place].tolist()
        sources = _words_of(_offsets(subject, text=text)[1], example.metadata["source_spans"])
        labels, offsets = _offsets(subject, text_target=answer)
        targets = _words_of(offsets, example.metadata["target_spans"])
        shift = _shift(labels, decoder) - (self.rows == "predict")
        used = weights[:, real]
        links = []
        for word, tokens in targets.items():
            rows = [token + shift for token in tokens if 0 <= token + shift < len(used)]
            if not rows or not sources:
                continue
            row = used[rows].float().mean(0)
            shares = {other: float(row[columns].sum()) for other, columns in sources.items()}
            links.append([max(shares, key=lambda other: shares[other]), word])
        return Response("", len(labels), {}, {"links": sorted(links), "layer": layer})


def _languages(example: Example) -> tuple[str, str]:
    return example.metadata["source"], example.metadata["target"]


def _offsets(subject: Subject, **text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text, and the first and past-the-end character of each; empty for special tokens."""
    tokenizer = subject.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "Words cannot be found among the tokens of this tokenizer.",
            evidence=type(tokenizer).__name__,
            remedy="Load the fast tokenizer of the model (with a tokenizer.json).",
        )
    found = encoded(tokenizer, **text, return_offsets_mapping=True, verbose=False)
    return list(found["input_ids"]), [tuple(pair) for pair in found["offset_mapping"]]


def _words_of(offsets: Sequence[tuple[int, int]], spans: Spans) -> dict[int, list[int]]:
    """Word -> its tokens; a token belongs to the word that it shares the most characters with."""
    found: dict[int, list[int]] = {}
    for token, (start, end) in enumerate(offsets):
        shared = [min(end, last) - max(start, first) for first, last in spans]
        if shared and max(shared) > 0:
            found.setdefault(shared.index(max(shared)), []).append(token)
    return found


def _shift(labels: Sequence[int], decoder: Sequence[int]) -> int:
    """How many positions later than in the labels a token stands in the decoder's input."""
    for shift in (1, 0):
        count = min(len(labels) - 1, len(decoder) - shift)
        if count > 0 and list(decoder[shift : shift + count]) == list(labels[:count]):
            return shift
    raise InputError("The decoder's input is not the translation shifted by one.", evidence=str(decoder))
