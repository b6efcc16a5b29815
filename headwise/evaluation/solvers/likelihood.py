"""Ask a model how probable a text is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.batching import Advance, continues, padded_right
from headwise.evaluation.task import Response
from headwise.model.tokenizing import decoded, encoded
from headwise.probes.run_examples import run_model

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True)
class Likelihood:
    """Let the model read a text and add up the negative log-probability of its tokens, in nats.

    A text longer than the window (the model's context, at most 2,048 tokens) is read in windows that overlap by half;
    each token is scored once, with at least half a window before it where there is one. The first token, which
    nothing precedes, is not scored unless the tokenizer puts a beginning-of-sequence token before it.
    `response.metadata["bytes"]` counts the UTF-8 bytes of what was scored.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 2:
            raise InputError("A window has two tokens or more.", evidence=f"window={self.window}")

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Response]:
        """One response per example, in their order."""
        if not continues(subject):
            raise InputError(
                "Perplexity needs a decoder with a tokenizer.", evidence=type(subject.model).__name__
            )
        subject = padded_right(subject)
        width = min(self.window or _positions(subject), _positions(subject))
        rows_of_ids = [
            encoded(subject.tokenizer, item.inputs["text"], verbose=False).input_ids for item in examples
        ]
        spans = [(index, *span) for index, ids in enumerate(rows_of_ids) for span in _windows(ids, width)]
        order = sorted(range(len(spans)), key=lambda number: len(spans[number][1]))
        sums, counts = [0.0] * len(examples), [0] * len(examples)
        left = Counter(index for index, *_ in spans)
        for chosen in _affordable(subject, order, [len(ids) for _, ids, _ in spans], batch_size):
            rows = [spans[number] for number in chosen]
            inputs = subject.prepare(text=[ids for _, ids, _ in rows])
            logits = run_model(subject, inputs).logits.float()
            mask, ids = inputs["attention_mask"].bool(), inputs["input_ids"]
            cost = torch.nn.functional.cross_entropy(
                logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
            )
            place = mask.cumsum(-1)[:, 1:] - 1
            for row, (index, _, fresh) in enumerate(rows):
                scored = mask[row, 1:] & mask[row, :-1] & (place[row] >= fresh)
                sums[index] += float(cost[row][scored].sum())
                counts[index] += int(scored.sum())
                left[index] -= 1
                advance(int(left[index] == 0))
        return [
            Response(example.inputs["text"], count, {"nll": total}, {"bytes": _bytes(subject, example, ids)})
            for example, total, count, ids in zip(examples, sums, counts, rows_of_ids, strict=True)
        ]

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "likelihood", **asdict(self)}


def _positions(subject: Subject) -> int:
    limit = getattr(subject.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return min(limit or 2048, 2048)


def _affordable(
    subject: Subject, order: Sequence[int], lengths: Sequence[int], size: int
) -> Iterator[list[int]]:
    """Batches of at most `size`, and of at most 2**28 logits unless a single text has more."""
    words = subject.config.get_text_config(decoder=True).vocab_size
    batch: list[int] = []
    for number in order:  # the longest comes last, so the new one sets the width
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[number] * words > 2**28):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _bytes(subject: Subject, example: Example, ids: list[int]) -> int:
    """UTF-8 bytes of the text, less those of a first token that nothing precedes."""
    unscored = decoded(subject.tokenizer, ids[:1], skip_special_tokens=True)
    return len(example.inputs["text"].encode()) - len(unscored.encode())


def _windows(ids: list[int], width: int) -> Iterator[tuple[list[int], int]]:
    """Stretches of at most `width` ids, and the place in each from which tokens are new."""
    if len(ids) <= width:
        yield ids, 0
        return
    step = width // 2
    for start in range(0, len(ids), step):
        part = ids[start : start + width]
        yield part, 0 if start == 0 else width - step
        if start + width >= len(ids):
            return
