"""Alignment error: does cross-attention look at the words that are translated?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.data.annotations import read_links
from headwise.evaluation.example import Example
from headwise.evaluation.solvers.alignment import CrossAttentionAlignment
from headwise.evaluation.task import Metric, Response, ratio
from headwise.evaluation.tasks.translation.parallel import Parallel
from headwise.readers.limits import current_limits, require_within
from headwise.zoo.data.phrase import PhrasePair
from headwise.zoo.data.phrase import alignment as known_links

_TRIAL = 12
_COUNTS = ("links", "sure", "sure_found", "possible_found")


@dataclass(frozen=True, kw_only=True)
class Alignment(Parallel):
    """The model is given the right translation; every target word is linked to the source word it looks at most.

    `aer` is the alignment error rate of Och and Ney (2003), pooled over all pairs: 1 less the links that are
    sure and found, and those that are possible and found, over all that were made and all that are sure. 0 is
    perfect, 1 is nothing right. `precision` is the share of the made links that are possible, `recall` the
    share of sure links that were made.

    The weights are read in the step that consumes the target word (`rows="consume"`, the row whose query it
    is; Chen et al. 2020, "Accurate Word Alignment Induction from Neural Machine Translation", show that this
    is where the alignment stands), or in the step that predicts it (`rows="predict"`). They are averaged over
    `heads`, or over all heads of `layer`; without either, over those of the layer that does best on 12
    validation phrases of each direction, and for files over those of the last but one (Garg et al. 2019).

    The zoo's phrases are put together from parts whose meaning is known, so their links are known as well.
    For files (see `Parallel`), `gold` names the links: lines such as `0-0 1-2 2p2` (Pharaoh; `p` marks a
    possible link), or `sentence source target S|P` (NAACL). Words are what stands between spaces, and count
    from `base`.

    Example:
        >>> item = Alignment(source="en", target="sw").draw(1, seed=0)[0]
        >>> len(item.metadata["sure"]) <= len(item.metadata["possible"])
        True
    """

    name: ClassVar[str] = "alignment"
    guards: ClassVar[tuple[str, ...]] = ("recall",)

    gold: Path | None = None
    base: Literal[0, 1] = 0
    layer: int | None = None
    """Decoder layer from 0, or from the end if negative."""
    heads: tuple[tuple[int, int], ...] = ()
    """(layer, head) of the decoder, both from 0."""
    rows: Literal["consume", "predict"] = "consume"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data is None) != (self.gold is None):
            raise InputError("Sentences and links belong together.", remedy="Give both data= and gold=.")
        if self.base not in (0, 1) or self.rows not in ("consume", "predict"):
            raise InputError(
                "base is 0 or 1, and rows is consume or predict.",
                evidence=f"base={self.base!r}, rows={self.rows!r}",
            )
        if self.heads and self.layer is not None:
            raise InputError("Heads and a layer were given.", remedy="Give one of them.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Alignment error rate, precision, recall; all pooled."""
        return (
            Metric("aer", _COUNTS, error_rate, "share", False),
            ratio("possible_found", "links", name="precision"),
            ratio("sure_found", "sure", name="recall"),
        )

    @property
    def solver(self) -> CrossAttentionAlignment:
        """By cross-attention."""
        if self.data is not None or self.heads or self.layer is not None:
            return CrossAttentionAlignment(self.heads, self.layer, self.rows)
        trial = replace(self, split="validation") if self.split == "test" else replace(self, split="test")
        return CrossAttentionAlignment(
            (), None, self.rows, self._error, tuple(trial.draw(_TRIAL * len(self.directions), 0))
        )

    def examples(self) -> Sequence[Example]:
        """All pairs, with their words and links in `about`."""
        if self.gold is None:
            return super().examples()
        found, dropped = self.pairs()
        for item in found:
            longest = max(len(item.inputs["text"].split()), len(item.answer.split()))
            require_within(longest, current_limits().columns, "words of a sentence", where=item.id)
        spans = [(_words(item.inputs["text"]), _words(item.answer)) for item in found]
        lengths = [(0, 0)] * (len(found) + dropped)  # a pair that was left out has no words to link
        for item, (source, target) in zip(found, spans, strict=True):
            lengths[item.metadata["place"]] = (len(source), len(target))
        links = read_links(self.gold, lengths, base=self.base)
        return [
            replace(
                item,
                metadata={
                    **item.metadata,
                    "source_spans": source,
                    "target_spans": target,
                    "sure": sorted(links[item.metadata["place"]].sure),
                    "possible": sorted(links[item.metadata["place"]].possible),
                },
            )
            for item, (source, target) in zip(found, spans, strict=True)
        ]

    def known(self, pair: PhrasePair) -> dict[str, Any]:
        """Words of a phrase of the zoo, and its links."""
        return {
            "source_spans": [(unit.start, unit.end) for unit in pair.source_units],
            "target_spans": [(unit.start, unit.end) for unit in pair.target_units],
            "sure": sorted(known_links(pair, sure=True)),
            "possible": sorted(known_links(pair)),
        }

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """The links, as `source-target`, and the counts that the rates come from."""
        links = {(source, target) for source, target in response.metadata["links"]}
        sure = {tuple(link) for link in example.metadata["sure"]}
        possible = {tuple(link) for link in example.metadata["possible"]}
        return {
            "direction": f"{example.metadata['source']}>{example.metadata['target']}",
            "layer": response.metadata["layer"],
            "made": " ".join(f"{source}-{target}" for source, target in sorted(links)),
            "gold": " ".join(
                f"{source}{'-' if (source, target) in sure else 'p'}{target}"
                for source, target in sorted(possible)
            ),
            "links": len(links),
            "sure": len(sure),
            "sure_found": len(links & sure),
            "possible_found": len(links & possible),
        }

    def _error(self, examples: Sequence[Example], responses: Sequence[Response]) -> float:
        """Pooled error rate of responses."""
        rows = [self.score(*pair) for pair in zip(examples, responses, strict=True)]
        return self.metrics[0].compute({name: [row[name] for row in rows] for name in _COUNTS})


def error_rate(
    links: np.ndarray, sure: np.ndarray, sure_found: np.ndarray, possible_found: np.ndarray, axis: int = -1
) -> np.ndarray:
    """Alignment error rate from counts, pooled; NaN where there is no link on either side.

    Example:
        >>> error_rate(np.array([2]), np.array([2]), np.array([2]), np.array([2])).item()
        0.0
    """
    right = sure_found.sum(axis=axis) + possible_found.sum(axis=axis)
    whole = links.sum(axis=axis) + sure.sum(axis=axis)
    return 1 - np.where(whole > 0, right / np.maximum(whole, 1), np.nan)


def _words(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in re.finditer(r"\S+", text)]
