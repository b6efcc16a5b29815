"""Sentences in two languages, for tasks about translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headwise.errors import InputError
from headwise.evaluation.data.components import FileSplit
from headwise.evaluation.data.files import read_parallel, read_table
from headwise.evaluation.data.splits import draw_of_file, validation_of_zoo
from headwise.evaluation.example import Example, subset
from headwise.evaluation.task import Task
from headwise.subject.languages import SHORT, TAGS
from headwise.zoo.data.languages import OTHERS
from headwise.zoo.data.phrase import PhrasePair
from headwise.zoo.data.phrases import shipped_pairs

_LINE = {"id": "one", "src": "Good morning.", "tgt": "Habari ya asubuhi."}


@dataclass(frozen=True, kw_only=True)
class Parallel(Task):
    """Sentences in two languages: the zoo's phrases, or files.

    Without `data` the sentences are dates, territories and amounts of money in English and eight other
    languages, in both directions; `source` and `target` choose among them. `data` is a table of
    tab-separated values with the columns id, src, tgt and, if wanted, src_lang and tgt_lang; or plain text, one
    sentence per line, whose translations stand line by line in the file `reference`. Pairs with an empty side
    are left out, and the manifest says how many.

    Languages are named as in NLLB (`eng_Latn`) or by their short code (`en`). Models of one direction need
    none; others need them as options or as columns.
    """

    data: Path | None = None
    reference: Path | None = None
    source: str = ""
    target: str = ""
    split: Literal["validation", "test"] = "test"
    """Of the zoo's phrases."""

    def __post_init__(self) -> None:
        if self.reference is not None and self.data is None:
            raise InputError("A reference belongs to data.", remedy="Give data= as well.")
        if self.split not in ("validation", "test"):
            raise InputError(
                "There is no such split.", evidence=repr(self.split), remedy="validation or test"
            )

    @property
    def directions(self) -> list[tuple[str, str]]:
        """Source and target language of the examples, as the files or the zoo call them."""
        if self.data is None:
            return self._ways()
        return list(
            dict.fromkeys((item.metadata["source"], item.metadata["target"]) for item in self.examples())
        )

    def examples(self) -> Sequence[Example]:
        """All sentences, with the names of their languages in `about`."""
        if self.data is None:
            return [item for way in self._ways() for item in self._phrases(*way)]
        return self.pairs()[0]

    def draw(self, n: int | None, seed: int) -> list[Example]:
        """`n` of the sentences, of every direction equally many or one more."""
        found = self.examples()
        groups = [
            [item for item in found if (item.metadata["source"], item.metadata["target"]) == way]
            for way in dict.fromkeys((item.metadata["source"], item.metadata["target"]) for item in found)
        ]
        pick = partial(draw_of_file, split=FileSplit(found)) if self.over_file else subset
        if n is None or len(groups) == 1 or n > len(found):
            return pick(found, n, seed, what=self.title)
        sizes, left = [0] * len(groups), n
        while left:  # small groups are used up, and the others share the rest
            for place, group in enumerate(groups):
                if left and sizes[place] < len(group):
                    sizes[place] += 1
                    left -= 1
        return [
            item
            for size, group in zip(sizes, groups, strict=True)
            for item in pick(group, size, seed, what=self.title)
        ]

    def validation(self, n: int, seed: int, *, exclude: Sequence[Example] = ()) -> list[Example]:
        """Phrases of the validation split; of files, their own."""
        return validation_of_zoo(self, n, seed, exclude)

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """How many pairs were left out because a side is empty."""
        return {} if self.data is None else {"pairs left out": self.pairs()[1]}

    def known(self, pair: PhrasePair) -> dict[str, Any]:
        """What else a task wants to know of a phrase of the zoo."""
        return {}

    def _ways(self) -> list[tuple[str, str]]:
        ways = [way for code in OTHERS for way in (("en", code), ("en", code)[::-1])]
        source, target = (SHORT.get(name, name) for name in (self.source, self.target))
        chosen = [way for way in ways if source in ("", way[0]) and target in ("", way[1])]
        if not chosen:
            raise InputError(
                "The zoo has no phrases in this direction.",
                evidence=f"source={self.source!r}, target={self.target!r}",
                remedy=f"Translate from or to English (en); the others are {', '.join(OTHERS)}.",
            )
        return [(TAGS[source], TAGS[target]) for source, target in chosen]

    def _phrases(self, source: str, target: str) -> list[Example]:
        other = SHORT[source] if SHORT[target] == "en" else SHORT[target]
        pairs = shipped_pairs(other, self.split)
        if SHORT[target] == "en":
            pairs = [pair.reversed() for pair in pairs]
        return [
            Example(
                f"{SHORT[source]}>{SHORT[target]}/{pair.id.rpartition('/')[2]}",
                {"text": pair.source.text},
                pair.target.text,
                {"source": source, "target": target, "kind": pair.kind, **self.known(pair)},
            )
            for pair in pairs
        ]

    def pairs(self) -> tuple[list[Example], int]:
        """The pairs of the files, and how many were left out."""
        assert self.data is not None
        if self.reference is not None:
            pairs, dropped = read_parallel(self.data, self.reference)
            metadata = {"source": self.source, "target": self.target}
            return [
                Example(f"line {line}", {"text": src}, tgt, {**metadata, "place": line - 1})
                for line, src, tgt in pairs
            ], dropped
        if self.data.suffix != ".tsv":
            raise InputError(
                "The translations are missing.",
                evidence=str(self.data),
                remedy="Give the file with them as reference=, or a .tsv with the columns id, src and tgt.",
            )
        found, rows = [], read_table(self.data, _LINE)
        for place, row in enumerate(rows):
            languages = [
                row.fields.get(column, "").strip() or option
                for column, option in (("src_lang", self.source), ("tgt_lang", self.target))
            ]
            src, tgt = row.fields["src"].strip(), row.fields["tgt"].strip()
            if src and tgt:
                metadata = {"source": languages[0], "target": languages[1], "place": place}
                found.append(Example(row.name(f"line {row.line}"), {"text": src}, tgt, metadata, row.group))
        if not found:
            raise InputError("No line has words on both sides.", evidence=str(self.data))
        return found, len(rows) - len(found)
