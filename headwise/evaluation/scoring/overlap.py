"""chrF and BLEU from counts per sentence, so that any set of sentences can be scored without reading them again.

The counts are sacrebleu's own, and so are the formulas; here they work on many sets of sentences at once, as the
bootstrap needs it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from headwise.optional import extra

CHRF = tuple(f"chrf_{number}" for number in range(18))
"""Columns: n-grams of 1 to 6 characters, each with those of the hypothesis, of the reference, and common ones."""
BLEU = tuple(f"bleu_{number}" for number in range(10))
"""Columns: lengths of hypothesis and reference, matching n-grams of 1 to 4 words, n-grams of the hypothesis."""

_BETA2 = 4.0  # recall counts twice as much: chrF2


@lru_cache(maxsize=1)
def chrf_scorer() -> Any:
    """The chrF2 of sacrebleu: 6 orders of characters, no words."""
    return extra("sacrebleu", "Translation is scored").CHRF()


@lru_cache(maxsize=8)
def bleu_scorer(tokenize: str) -> Any:
    """The BLEU of sacrebleu with one of its tokenizers."""
    return extra("sacrebleu", "Translation is scored").BLEU(tokenize=tokenize)


def tokenizer_for(language: str) -> str:
    """The tokenizer of sacrebleu for a language, of those that need no download: `zh`, `char` or `13a`.

    Example:
        >>> tokenizer_for("zho_Hans"), tokenizer_for("ja"), tokenizer_for("swh_Latn")
        ('zh', 'char', '13a')
    """
    if language.split("_")[0] in ("zh", "zho"):
        return "zh"
    return "char" if language.split("_")[0] in ("ja", "jpn", "ko", "kor", "th", "tha", "km", "khm") else "13a"


def counts(hypothesis: str, reference: str, tokenize: str) -> dict[str, int]:
    """The columns `CHRF` and `BLEU` of one sentence."""
    found = {}
    for names, scorer in ((CHRF, chrf_scorer()), (BLEU, bleu_scorer(tokenize))):
        numbers = scorer._extract_corpus_statistics([hypothesis], [[reference]])[0]
        found |= dict(zip(names, map(int, numbers), strict=True))
    return found


def chrf(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    """chrF2 of a corpus, 0 to 100, from the columns `CHRF`."""
    total = np.stack([column.sum(axis=axis) for column in columns]).reshape(
        6, 3, *columns[0].sum(axis=axis).shape
    )
    written, wanted, common = total[:, 0], total[:, 1], total[:, 2]
    real = (written > 0) & (wanted > 0)
    orders = np.maximum(real.sum(0), 1)
    precision = np.where(real, common / np.maximum(written, 1), 0.0).sum(0) / orders
    recall = np.where(real, common / np.maximum(wanted, 1), 0.0).sum(0) / orders
    below = _BETA2 * precision + recall
    return 100 * np.where(below > 0, (1 + _BETA2) * precision * recall / np.where(below > 0, below, 1), 0.0)


def bleu(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    """BLEU of a corpus, 0 to 100, from the columns `BLEU`; up to 4 words, smoothed as sacrebleu does ("exp")."""
    total = [column.sum(axis=axis).astype(float) for column in columns]
    written, wanted, right, made = total[0], total[1], total[2:6], total[6:10]
    logs, halving = np.zeros_like(written), np.ones_like(written)
    for common, number in zip(right, made, strict=True):
        halving = np.where(common > 0, halving, 2 * halving)
        share = np.where(common > 0, common, 1 / halving) / np.maximum(number, 1)
        logs = logs + np.log(100 * share) / 4
    brevity = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(written, 1)))
    defined = (np.sum(right, axis=0) > 0) & (np.min(made, axis=0) > 0)
    return np.where(defined, brevity * np.exp(logs), 0.0)
