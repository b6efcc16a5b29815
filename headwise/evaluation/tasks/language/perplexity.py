"""Perplexity: how well a language model predicts a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.files import read_json_lines
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.likelihood import Likelihood
from headwise.evaluation.task import Metric, Response, Task, ratio
from headwise.readers.content import uncollected
from headwise.readers.text import read_text
from headwise.zoo.data.text import shipped_test


@dataclass(frozen=True, kw_only=True)
class Perplexity(Task):
    """The model reads texts and is asked how probable each of their tokens was.

    `perplexity` is exp of the mean negative log-probability of a token, pooled over all texts: among how many
    equally probable tokens the model chooses on average; 1 is certainty, the size of the vocabulary is
    ignorance. It depends on the tokenizer: two models with different ones are compared by `word_perplexity`,
    `byte_perplexity` or `bits_per_byte`, which are lm-evaluation-harness's. Words are what stands between blanks of
    the text as it is, and bytes those of UTF-8; a first token that nothing precedes is not scored and not counted.

    Without `data` the texts are paragraphs of Python's documentation that the zoo was not trained on. `data`
    is a `.txt` file whose paragraphs are separated by empty lines, or `.jsonl` with `{"text": "..."}` per
    line (and `id`, if wanted). Long texts are read in windows that overlap by half, see
    `headwise.evaluation.Likelihood`; `window` makes them shorter than the model's context.

    Example:
        >>> task = Perplexity()
        >>> task.draw(2, seed=0)[0].id
        'paragraph 394'
    """

    name: ClassVar[str] = "perplexity"
    guards: ClassVar[tuple[str, ...]] = ()

    data: Path | None = None
    window: int | None = None
    """Tokens read together."""

    def __post_init__(self) -> None:
        Likelihood(self.window)
        if self.data is not None and self.data.suffix not in (".txt", ".jsonl"):
            raise InputError(
                "Perplexity reads .txt or .jsonl.", evidence=str(self.data), remedy="Rename or convert it."
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity, nats per token, bits per byte, perplexity of a word and of a byte; pooled over the texts."""
        return (
            Metric("perplexity", ("nll", "tokens"), _perplexity, "perplexity", False),
            ratio("nll", "tokens", name="loss", unit="nats per token", higher_is_better=False),
            ratio("bits", "bytes", name="bits_per_byte", unit="bits per byte", higher_is_better=False),
            Metric("word_perplexity", ("nll", "words"), _perplexity, "perplexity", False),
            Metric("byte_perplexity", ("nll", "bytes"), _perplexity, "perplexity", False),
        )

    @property
    def solver(self) -> Likelihood:
        """The texts are read, nothing is written."""
        return Likelihood(self.window)

    @uncollected()
    def examples(self) -> Sequence[Example]:
        """The texts of the file, or the shipped paragraphs."""
        if self.data is None:
            texts = [(f"paragraph {number}", text, "") for number, text in enumerate(shipped_test())]
        elif self.data.suffix == ".jsonl":
            rows = read_json_lines(self.data, {"text": "A paragraph."})
            texts = [(row.name(f"line {row.line}"), row.text("text"), row.group) for row in rows]
        else:
            found = re.split(r"\n[ \t]*\n", read_text(self.data))
            texts = [
                (f"paragraph {number}", text.strip(), "") for number, text in enumerate(found) if text.strip()
            ]
        return [Example(id, {"text": text}, "", group=group) for id, text, group in texts]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Negative log-probability in nats and in bits, and the bytes and words that it is about."""
        nll, scored, text = (
            response.scores["nll"],
            response.metadata["bytes"],
            example.inputs["text"].encode(),
        )
        rest = text[len(text) - scored :].decode(errors="replace")
        words = len(re.split(r"\s+", rest)) if scored == len(text) else len(rest.split())
        return {"nll": nll, "bits": nll / log(2), "bytes": scored, "words": words}


def _perplexity(nll: np.ndarray, tokens: np.ndarray, axis: int = -1) -> np.ndarray:
    """Exp of the pooled mean; NaN where nothing was scored."""
    total, count = nll.sum(axis=axis), tokens.sum(axis=axis)
    return np.exp(np.where(count > 0, total / np.maximum(count, 1), np.nan))
