"""Examples whose replies are to be explained, and the table of their positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from headwise.analyses.inputs import as_examples, as_subject
from headwise.errors import InputError
from headwise.functional.explained import Target
from headwise.layout import MODALITIES, ROLES
from headwise.layout.axes import Axis
from headwise.layout.roles import token_texts
from headwise.probes.capture import run_record
from headwise.probes.reply import question
from headwise.saliency.explained import At, Explained
from headwise.subject.info import identity_of
from headwise.subject.languages import in_languages

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject


@dataclass(frozen=True)
class Asked:
    """What is asked of every example."""

    target: Target = "log_probability"
    at: At = "input"
    generate: int = 16


def explained_examples(subject: Any, data: Any, asked: Asked, name: str) -> Iterator[tuple[str, Explained]]:
    """Every example with its name, for the analysis `name`.

    Raises:
        InputError: there are no examples, one has no reply, or two have the same name.
    """
    subject = as_subject(subject, name)
    names: set[str] = set()
    for number, example in enumerate(as_examples([data] if isinstance(data, Mapping) else data, name)):
        label = str(example.pop("id", number))
        if label in names:
            raise InputError(
                "Two examples have the same id.", evidence=repr(label), remedy="Give each its own."
            )
        names.add(label)
        own, given = in_languages(subject, example)
        yield label, Explained(question(own, given, generate=asked.generate), asked.target, asked.at)


def provenance(example: Explained, count: int) -> dict[str, Any]:
    """Where a table over so many examples comes from."""
    subject: Subject = example.question.subject
    return {
        **identity_of(subject),
        **run_record(),
        "examples": count,
        "warnings": list(example.question.notes),
    }


def written_columns(example: Explained) -> dict[str, np.ndarray]:
    """Columns of every token of the reply: its position and its text."""
    return {
        "position": np.array(example.question.positions),
        "token": np.array(example.question.tokens, dtype=object),
    }


def map_table(example: Explained, tower: str, values: Tensor) -> pd.DataFrame:
    """One row per token of the reply and position that it can rest on."""
    from pandas import DataFrame

    axis = example.question.layout.axes[tower]
    token, source = (~values.isnan()).nonzero().T.numpy()
    roles = np.array(ROLES)[axis.roles[0].cpu().numpy()]
    columns = {name: column[token] for name, column in written_columns(example).items()}
    columns |= {"source": source, "source_token": source_texts(example, axis)[source], "role": roles[source]}
    columns["modality"] = np.array([MODALITIES.get(role, "text") for role in roles], dtype=object)[source]
    return DataFrame({"tower": tower, **columns, "saliency": values[token, source].numpy()})


def source_texts(example: Explained, axis: Axis) -> np.ndarray:
    """The text of every position of a tower; a modality and a number where there is no token."""
    roles = [ROLES[role] for role in axis.roles[0].tolist()]
    if axis.ids is not None:
        texts = token_texts(example.question.subject.tokenizer, axis.ids[0].tolist())
        ids = axis.ids[0].tolist()
        found = [str(token) if text is None else text for token, text in zip(ids, texts, strict=True)]
    else:
        found = [f"{role} {place}" for place, role in enumerate(roles)]
    return np.array(found, dtype=object)
