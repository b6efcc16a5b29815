"""chrF and BLEU from counts per sentence, so that any set of sentences can be scored without reading them again.

Counts and scores are sacrebleu's own; its functions of counts are the private ones behind `corpus_score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from headwise.optional import extra

CHRF = tuple(f"chrf_{number}" for number in range(18))
"""Columns: n-grams of 1 to 6 characters, each with those of the hypothesis, of the reference, and common ones."""
BLEU = tuple(f"bleu_{number}" for number in range(10))
"""Columns: lengths of hypothesis and reference, matching n-grams of 1 to 4 words, n-grams of the hypothesis."""


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
    return _scores(chrf_scorer(), columns, axis)


def bleu(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
    """BLEU of a corpus, 0 to 100, from the columns `BLEU`; up to 4 words, smoothed as sacrebleu does ("exp")."""
    return _scores(bleu_scorer("13a"), columns, axis)  # counts know no tokenizer


def _scores(scorer: Any, columns: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """The scorer's own number for every set of sentences, from the sums of their counts."""
    sums = np.stack([column.sum(axis=axis) for column in columns], axis=-1)
    found = [
        scorer._compute_score_from_stats(stats).score for stats in sums.reshape(-1, len(columns)).tolist()
    ]
    return np.reshape(found, sums.shape[:-1])
