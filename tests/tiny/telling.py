"""Which rows of a law that holds for many are tried in the quick tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest

TELLING = frozenset(
    {
        *("gpt2", "llama", "gemma2", "gpt_oss", "bloom", "diffllama", "jamba", "mistral"),
        *("bert", "deberta", "perceiver", "longformer", "vit", "swin"),
        *("llava", "qwen2_vl", "instructblip", "mllama", "clap"),
        *("whisper", "wavlm", "bart", "t5", "longt5"),
    }
)
"""One architecture of every kind: grouped heads, sink logits, biases of distance, windows, several towers."""


def crossed(
    rows: Iterable[Any], columns: Iterable[Any], few: Sequence[Any], also: Collection[Any] = ()
) -> list[Any]:
    """Every pair as parameters: quick with each column for the first of `few`, with the first column for the others.

    So each row and each column has a quick case. Pairs in `also` are quick as well; the rest is wide.
    """
    columns = list(columns)
    quick = {(few[0], column) for column in columns} | {(row, columns[0]) for row in few} | set(also)
    return [
        pytest.param(name, column, marks=marks or ([] if (name, column) in quick else pytest.mark.wide))
        for name, marks in (
            (row.values[0], row.marks) if hasattr(row, "marks") else (row, ()) for row in rows
        )
        for column in columns
    ]


def telling(rows: Iterable[Any], few: Collection[Any] = TELLING) -> list[Any]:
    """The rows as parameters; those whose first value is not among `few` are wide.

    `make test-slow` and the runs on other releases of transformers take the wide ones, `make test` does not.
    """
    params = [
        row if hasattr(row, "marks") else pytest.param(*([row] if isinstance(row, str) else row))
        for row in rows
    ]
    return [
        pytest.param(
            *row.values, id=row.id, marks=[*row.marks, *([] if row.values[0] in few else [pytest.mark.wide])]
        )
        for row in params
    ]
