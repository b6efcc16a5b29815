"""Ask a model in batches: let it write, or let it choose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.evaluation.task import Example, Reply
from headwise.loading import quiet

if TYPE_CHECKING:
    from headwise.subject import Subject

Advance = Callable[[int], None]


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
    ) -> list[Reply]:
        """One reply per example, in their order."""
        model: Any = subject.model
        if not model.can_generate():
            raise InputError("This model generates nothing.", evidence=type(model).__name__)
        replies: dict[int, Reply] = {}
        for indices in batches(subject, examples, batch_size, self.group):
            chosen = [examples[index] for index in indices]
            inputs = self.prepare(subject, chosen)
            with torch.no_grad(), quiet():
                written = model.generate(
                    **inputs,
                    max_new_tokens=self.max_new_tokens,
                    num_beams=self.beams,
                    do_sample=False,
                    **self.options(subject, chosen),
                )
            for index, reply in zip(indices, self.replies(subject, inputs, written), strict=True):
                replies[index] = reply
            advance(len(indices))
        return [replies[index] for index in range(len(examples))]

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

    def replies(self, subject: Subject, inputs: Any, written: Tensor) -> list[Reply]:
        """What was written after the prompt, without special tokens."""
        start = 0 if subject.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        tokenizer = subject.tokenizer
        special = set(tokenizer.all_special_ids)
        return [
            Reply(
                tokenizer.decode(row, skip_special_tokens=True).strip(),
                sum(token not in special for token in row.tolist()),
            )
            for row in written[:, start:]
        ]

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "generate", "do_sample": False, **asdict(self)}


@dataclass(frozen=True)
class Choose:
    """Read the distribution of the next token, and score the candidates of `example.about["candidates"]`.

    A candidate is written as it continues the prompt (" Mary", with its space). One of several tokens is
    scored by the sum of their log-probabilities. `reply.text` is the most probable token of the whole
    vocabulary, and `reply.about["said"]` the candidate that it begins (the best of them, "" for none): what
    the model says when nobody restricts it.
    """

    def __call__(
        self, subject: Subject, examples: Sequence[Example], *, batch_size: int, advance: Advance
    ) -> list[Reply]:
        """One reply per example, in their order."""
        if not continues(subject):
            raise InputError(
                "Choosing needs a decoder with a tokenizer.", evidence=type(subject.model).__name__
            )
        subject = padded_right(subject)
        replies: dict[int, Reply] = {}
        for indices in batches(subject, examples, batch_size):
            chosen = [examples[index] for index in indices]
            first = _next_token(subject, prepared(subject, chosen))
            for row, (index, example) in enumerate(zip(indices, chosen, strict=True)):
                replies[index] = self._reply(subject, example, first[row])
            advance(len(indices))
        return [replies[index] for index in range(len(examples))]

    def _reply(self, subject: Subject, example: Example, first: Tensor) -> Reply:
        """From the log-probabilities (word,) of what follows the prompt."""
        best = int(first.argmax())
        scores, begun = {}, {}
        for candidate in example.about["candidates"]:
            ids = continuation(subject, example.inputs["text"], candidate)
            scores[candidate] = float(first[ids[0]]) if len(ids) == 1 else _continued(subject, example, ids)
            if ids[0] == best:
                begun[candidate] = scores[candidate]
        said = max(begun, key=lambda candidate: begun[candidate], default="")
        return Reply(subject.tokenizer.decode([best]), 1, scores, {"said": said})

    def manifest(self) -> dict[str, Any]:
        """The decoding parameters, JSON-able."""
        return {"asked": "choose", "scored": "sum of log-probabilities of the candidate's tokens"}


def batches(
    subject: Subject,
    examples: Sequence[Example],
    size: int,
    group: Callable[[Example], Any] = lambda _: "",
) -> Iterator[list[int]]:
    """Indices of examples of like length, at most `size` together and never of two groups."""
    keys = [(group(example), *_length(subject, example)) for example in examples]
    order = sorted(range(len(examples)), key=lambda index: keys[index])
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and stop - start < size and keys[order[stop]][0] == keys[order[start]][0]:
            stop += 1
        yield order[start:stop]
        start = stop


def prepared(subject: Subject, examples: Sequence[Example]) -> Any:
    """The tensors of a batch of examples."""
    kinds = list(examples[0].inputs)
    columns: dict[str, Any] = {kind: [example.inputs[kind] for example in examples] for kind in kinds}
    return subject.prepare(**columns)


def continues(subject: Subject) -> bool:
    """True for a decoder with a tokenizer, whose logits at a token are about the one after it.

    An encoder has none, and those of a masked language model are about the token itself.
    """
    model: Any = subject.model
    return (
        subject.tokenizer is not None and not subject.config.is_encoder_decoder and bool(model.can_generate())
    )


def padded_right(subject: Subject) -> Subject:
    """The subject with its texts padded on the right, so that every text begins at position 0.

    A forward pass counts positions from the first column; padding there would shift them.
    """
    if getattr(subject.tokenizer, "padding_side", "right") == "right":
        return subject
    own = replace(subject, processor=copy.deepcopy(subject.processor))
    own.tokenizer.padding_side = "right"
    return own


def continuation(subject: Subject, prompt: str, candidate: str) -> list[int]:
    """Ids that the tokenizer gives `candidate` after `prompt`.

    Raises:
        InputError: the candidate has no tokens.
    """
    tokenizer = subject.tokenizer
    before = tokenizer(prompt, verbose=False).input_ids
    whole = tokenizer(prompt + candidate, verbose=False).input_ids
    ids = whole[len(before) :]
    if whole[: len(before)] != before:
        ids = tokenizer(candidate, add_special_tokens=False, verbose=False).input_ids
    if not ids:
        raise InputError("A candidate has no tokens.", evidence=repr(candidate))
    return ids


def _next_token(subject: Subject, inputs: Any) -> Tensor:
    """Log-probabilities (example, word) of what follows the last token of every row."""
    mask = inputs["attention_mask"].bool()
    last = mask.shape[1] - 1 - mask.flip(-1).int().argmax(-1)
    with torch.no_grad():
        logits = subject.model(**inputs).logits
    return logits[torch.arange(len(last)), last].float().log_softmax(-1)


def _continued(subject: Subject, example: Example, ids: list[int]) -> float:
    """Log-probability of `ids` after the example's prompt."""
    inputs = prepared(subject, [example])
    start = inputs["input_ids"].shape[1]
    more = torch.tensor([ids], device=inputs["input_ids"].device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], more], -1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(more)], -1)
    with torch.no_grad():
        logits = subject.model(**inputs).logits[0, start - 1 : -1].float().log_softmax(-1)
    return float(logits.gather(-1, more[0, :, None]).sum())


def _length(subject: Subject, example: Example) -> tuple[int, str]:
    text = example.inputs.get("text")
    if isinstance(text, str) and subject.tokenizer is not None:
        return len(subject.tokenizer(text, verbose=False).input_ids), text
    return len(text) if text is not None else 0, ""
