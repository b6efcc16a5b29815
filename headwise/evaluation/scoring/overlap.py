"""chrF and BLEU from counts per sentence, so that any set of sentences can be scored without reading them again.

Counts and scores are sacrebleu's own; its functions of counts are the private ones behind `corpus_score`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from headwise.errors import InputError
from headwise.optional import extra

CHRF = tuple(f"chrf_{number}" for number in range(18))
"""Columns: n-grams of 1 to 6 characters, each with those of the hypothesis, of the reference, and common ones."""
BLEU = tuple(f"bleu_{number}" for number in range(10))
"""Columns: lengths of hypothesis and reference, matching n-grams of 1 to 4 words, n-grams of the hypothesis."""
_TOKENIZERS = {
    **dict.fromkeys(
        ("hans", "hant", "hani", "zh", "zho", "cmn", "yue", "lzh", "wuu", "nan", "hak", "gan"), "zh"
    ),
    **dict.fromkeys(("jpan", "ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("hang", "kore", "ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("thai", "khmr", "laoo", "mymr", "tibt", "th", "tha", "km", "khm", "lo", "lao"), "char"),
    **dict.fromkeys(("my", "mya", "bo", "bod", "dz", "dzo", "shn", "ksw", "mnw"), "char"),
}
"""Scripts and languages whose words are not set apart by blanks, and their tokenizers."""
_NO_BLANKS = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Letters of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese."""


@lru_cache(maxsize=1)
def chrf_scorer() -> Any:
    """The chrF2 of sacrebleu: 6 orders of characters, no words."""
    return extra("sacrebleu", "Translation is scored").CHRF()


@lru_cache(maxsize=8)
def bleu_scorer(tokenize: str) -> Any:
    """The BLEU of sacrebleu with one of its tokenizers.

    Raises:
        InputError: the tokenizer needs a package that is not installed, or a model that cannot be downloaded.
    """
    scorer = extra("sacrebleu", "Translation is scored").BLEU
    try:
        return scorer(tokenize=tokenize)
    except (RuntimeError, ImportError, OSError) as error:
        packages = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}.get(tokenize, "sentencepiece")
        raise InputError(
            f"The tokenizer {tokenize} of BLEU cannot be had.",
            evidence=" ".join(str(error).split())[:200],
            remedy=f"pip install '{packages}', or count characters: tokenize=char (--set tokenize=char).",
        ) from error


def tokenizer_for(language: str) -> str:
    """The tokenizer of sacrebleu for a language.

    `zh` for Chinese, `ja-mecab` and `ko-mecab` for Japanese and Korean, which need packages of their own; `char` for
    other scripts without blanks between words, for which sacrebleu knows no words; `13a` for all else. The script
    decides where the name has one.

    Example:
        >>> tokenizer_for("zh-CN"), tokenizer_for("jpn_Jpan"), tokenizer_for("th"), tokenizer_for("swh_Latn")
        ('zh', 'ja-mecab', 'char', '13a')
    """
    name, *parts = re.split("[-_]", language.lower())
    return next((_TOKENIZERS[part] for part in (*parts, name) if part in _TOKENIZERS), "13a")


def lacks_blanks(text: str) -> bool:
    """True where most letters are of a script that sets no blanks between words.

    Example:
        >>> lacks_blanks("今天天气很好。"), lacks_blanks("Habari ya asubuhi.")
        (True, False)
    """
    return len(_NO_BLANKS.findall(text)) * 2 > sum(map(str.isalpha, text))


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
