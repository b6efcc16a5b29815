"""Ask an encoder-decoder that listens when every word begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance
from headwise.evaluation.solvers.cross_attention import check_heads, cross_attention
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.solvers.transcription import in_languages
from headwise.evaluation.task import Response
from headwise.functional.time_warping import token_start_frames
from headwise.layout.audio import position_seconds
from headwise.model.tokenizing import decoded
from headwise.subject.prepare import prepare
from headwise.subject.speech_prompt import languages_of, names_languages
from headwise.text import word_starts

if TYPE_CHECKING:
    from headwise.subject import Subject

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WordTimestamps:
    """The response's `metadata` holds `words` and `starts` (seconds), of the right text or of what `writer` writes."""

    heads: Heads = ()
    language: str = ""
    writer: Generate | None = None

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        if self.writer is None:
            texts = [example.answer for example in examples]
        else:
            written = self.writer(subject, examples, batch_size=batch_size, advance=lambda more: None)
            texts = [response.text for response in written]
        responses = [Response(text, 0, {}, {"words": [], "starts": []}) for text in texts]
        spoken = [index for index, text in enumerate(texts) if text.strip()]
        advance(len(texts) - len(spoken))
        spoken.sort(key=lambda index: (len(texts[index]), index))
        for start in range(0, len(spoken), batch_size):
            indices = spoken[start : start + batch_size]
            chosen = [examples[index] for index in indices]
            timed = self._timed(subject, chosen, [texts[index] for index in indices], check=start == 0)
            for index, response in zip(indices, timed, strict=True):
                responses[index] = response
            advance(len(indices))
        return responses

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {
            "asked": "cross-attention, dynamic time warping",
            "heads": [list(head) for head in self.heads] or "the model's",
            "words": "given" if self.writer is None else self.writer.manifest(),
        }

    def _timed(
        self, subject: Subject, examples: Sequence[Example], texts: Sequence[str], *, check: bool
    ) -> list[Response]:
        sounds = [item.inputs["audio"] for item in examples]
        inputs = prepare(subject, audio=sounds, target=list(texts), language=self.language or None).batch
        layers = cross_attention(subject, inputs, check=check)
        heads = self.heads or _own_heads(subject, layers)
        check_heads(heads, layers)
        keys = next(iter(layers.values())).shape[-1]
        seconds = position_seconds(subject.model, subject.processor, keys)
        if seconds is None:
            raise InputError(
                "How long an encoder position lasts is not known.", evidence=type(subject.model).__name__
            )
        mask = inputs.get("decoder_attention_mask", torch.ones_like(inputs["decoder_input_ids"])).bool()
        responses = []
        for place, (example, text) in enumerate(zip(examples, texts, strict=True)):
            ids = inputs["decoder_input_ids"][place][mask[place]].tolist()
            frames = max(1, int((seconds[:, 1] <= example.metadata["seconds"]).sum()))
            weights = torch.stack([layers[layer][place, head, : len(ids)] for layer, head in heads])
            responses.append(_response(subject, text, ids, weights.cpu(), seconds[:, 0].cpu(), frames))
        codes = languages_of(subject, inputs["decoder_input_ids"]) if names_languages(subject.model) else None
        return in_languages(subject, responses, codes, named=bool(self.language))


def _response(
    subject: Subject,
    text: str,
    ids: list[int],
    weights: Float[Tensor, "head row key"],
    seconds: Float[Tensor, " key"],
    frames: int,
) -> Response:
    added = subject.tokenizer.added_tokens_decoder
    special = {*subject.tokenizer.all_special_ids, *(token for token in added if added[token].special)}
    prompt = next((place for place, token in enumerate(ids) if token not in special), len(ids))
    texts = [decoded(subject.tokenizer, ids[prompt : end + 1]) for end in range(prompt, len(ids))]
    entered = token_start_frames(weights, first=prompt - 1, frames=frames)  # row i predicts token i + 1
    starts = [float(seconds[entered[token]]) for token in word_starts(texts)]
    words = texts[-1].split()
    return Response(text, len(ids) - prompt, {}, {"words": words, "starts": starts[: len(words)]})


def _own_heads(subject: Subject, layers: dict[int, Tensor]) -> Heads:
    """Those of the generation config, else all of the last half of the layers."""
    named = getattr(subject.model.generation_config, "alignment_heads", None)
    if named:
        return tuple((int(layer), int(head)) for layer, head in named)
    late = sorted(layers)[len(layers) // 2 :]
    return tuple((layer, head) for layer in late for head in range(layers[layer].shape[1]))
