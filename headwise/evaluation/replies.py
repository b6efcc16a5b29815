"""Replies that hold nothing to judge: empty ones, the question again, the same to everything."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def empty_counts(frame: pd.DataFrame) -> dict[str, int]:
    """Replies and references without a word, of a per-example table.

    Example:
        >>> import pandas as pd
        >>> empty_counts(pd.DataFrame({"response": ["a cat", " ", ""], "answer": ["a cat", "a dog", ""]}))
        {'replies': 2, 'references': 1}
    """
    return {
        "replies": int(empty(frame).sum()),
        "references": sum(not plain(answer) for answer in frame["answer"]),
    }


def empty(frame: pd.DataFrame) -> np.ndarray:
    """(row,): True where nothing was said."""
    return np.array([not plain(text) for text in frame["response"]], dtype=bool)


def repeated(frame: pd.DataFrame) -> np.ndarray:
    """(row,): True where the question, or the larger part of it, was said again and is not the answer."""
    return np.array(
        [
            bool(said) and said != answer and said in prompt and 2 * len(said.split()) >= len(prompt.split())
            for said, prompt, answer in zip(
                *(map(plain, frame[name]) for name in ("response", "prompt", "answer")), strict=True
            )
        ],
        dtype=bool,
    )


def all_alike(frame: pd.DataFrame) -> bool:
    """True where nearly everything was answered by one and the same reply, or by replies that were read as the same,
    and the right answers differ.

    Nearly everything is 19 of 20, punctuation aside, where no answer is right for more than 18 of 20.

    Example:
        >>> import pandas as pd
        >>> all_alike(pd.DataFrame({"response": ["yes", "Yes.", "yes!"], "answer": ["yes", "no", "no"]}))
        True
    """
    columns = ["chosen"] if "chosen" in frame else [name for name in ("response", "parsed") if name in frame]
    texts = {
        name: [re.sub(r"[^\w\s]", "", plain(text)).strip() for text in frame[name]]
        for name in (*columns, "answer")
    }
    return _commonest(texts["answer"]) <= 0.9 and any(_commonest(texts[name]) >= 0.95 for name in columns)


def _commonest(texts: list[str]) -> float:
    """The share of the commonest of them."""
    return Counter(texts).most_common(1)[0][1] / len(texts)


def plain(text: object) -> str:
    """A reply without the blanks, the capitals, and the bars between the replies of a group."""
    return " ".join(str(text).replace("|", " ").split()).casefold()
