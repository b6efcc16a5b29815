"""Translation: chrF, BLEU and exact match against one reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headwise.errors import InputError
from headwise.evaluation.example import Example
from headwise.evaluation.scoring.overlap import (
    BLEU,
    CHRF,
    bleu,
    bleu_scorer,
    chrf,
    chrf_scorer,
    counts,
    lacks_blanks,
    tokenizer_for,
)
from headwise.evaluation.solvers.generate import Generate
from headwise.evaluation.task import Metric, Response, mean
from headwise.evaluation.tasks.translation.parallel import Parallel
from headwise.optional import extra, versions
from headwise.subject.languages import set_languages

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Translation(Parallel):
    """The model translates, greedily unless `beams` says otherwise.

    `chrf` is chrF2 of the whole corpus, 0 to 100: the overlap of n-grams of 1 to 6 characters, where recall
    counts twice. It needs no words, so it is fair to languages that build long ones or write no spaces.
    `bleu` is BLEU of the corpus (up to four words, sacrebleu's smoothing), with the tokenizer of the language unless
    `tokenize` names another: `zh` for Chinese; `ja-mecab` for Japanese (`pip install 'sacrebleu[ja]'`), `ko-mecab` for
    Korean (`'sacrebleu[ko]'`); `char`, which counts characters, for Thai, Lao, Khmer, Burmese and Tibetan, for which
    sacrebleu knows no words (FLORES has `flores200`, which needs sentencepiece and a download); `13a` otherwise. The
    unit of `bleu` names it. `exact` is the share of sentences that equal the reference. All are sacrebleu's, whose
    signatures are in the manifest. Where there are several directions, chrF and exact match are given for each, such as
    `chrf eng_Latn>swh_Latn`. COMET and other learned scores are not computed: they need weights.

    `template` is written around the sentence, for models that are told what to do in words; it may use
    `{text}`, `{source}` and `{target}`. How to give files: `Parallel`.

    Post 2018, "A Call for Clarity in Reporting BLEU Scores"; Popović 2015, "chrF".

    Example:
        >>> task = Translation(source="en", target="sw")
        >>> task.draw(1, seed=0)[0].id.split("/")[0]
        'en>sw'
    """

    name: ClassVar[str] = "translation"
    version: ClassVar[int] = 2
    guards: ClassVar[tuple[str, ...]] = ()

    template: str = "{text}"
    tokenize: str = ""
    max_new_tokens: int = 96
    beams: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{text}" not in self.template:
            raise InputError("The template leaves out {text}.", evidence=repr(self.template))
        if self.max_new_tokens < 1 or self.beams < 1:
            raise InputError(
                "max_new_tokens and beams count from 1.",
                evidence=f"max_new_tokens={self.max_new_tokens}, beams={self.beams}",
            )
        if self.tokenize:
            known = extra("sacrebleu", "Translation is scored").BLEU.TOKENIZERS
            if self.tokenize not in known:
                raise InputError("BLEU has no such tokenizer.", evidence=f"it has: {', '.join(known)}")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """chrF, BLEU and exact match; chrF and exact match again for each of several directions."""
        tokenizers = ", ".join(self._tokenizers())
        whole = (
            Metric("chrf", CHRF, chrf, "chrF2"),
            Metric("bleu", BLEU, bleu, f"BLEU, {tokenizers}"),
            mean("exact"),
        )
        ways = [f"{source}>{target}" for source, target in self.directions]
        if len(ways) < 2:
            return whole
        parts = [
            part
            for way in ways
            for part in (
                Metric(f"chrf {way}", CHRF, chrf, "chrF2", where=("direction", way)),
                Metric(f"exact {way}", ("exact",), mean("exact").statistic, where=("direction", way)),
            )
        ]
        return (*whole, *parts)

    @property
    def solver(self) -> Generate:
        """The model is told the languages and writes."""
        return _Translate(self.max_new_tokens, self.beams)

    def check(self, subject: Subject) -> None:
        """Refuse to start without sacrebleu, or without what its tokenizer needs."""
        for name in self._tokenizers():
            bleu_scorer(name)

    def examples(self) -> Sequence[Example]:
        """All sentences, each in its template."""
        return [
            replace(item, inputs={"text": self._written(item.inputs["text"], item.metadata)})
            for item in super().examples()
        ]

    def score(self, example: Example, response: Response) -> dict[str, Any]:
        """Exact match, chrF of the sentence, and at the end the counts that the corpus scores come from."""
        tokenize = self.tokenize or tokenizer_for(example.metadata["target"])
        found = counts(response.text, example.answer, tokenize)
        return {
            "direction": f"{example.metadata['source']}>{example.metadata['target']}",
            "exact": response.text.strip() == example.answer.strip(),
            "sentence_chrf": float(chrf(*(np.array([found[name]]) for name in CHRF))),
            **found,
        }

    def remarks(self, responses: Sequence[Response]) -> list[str]:
        """Whether BLEU took whole sentences for words."""
        text = "".join(response.text for response in responses)
        if "13a" not in self._tokenizers() or not lacks_blanks(text):
            return []
        return [
            "BLEU splits at blanks (tokenizer 13a), and most of what was written has none between words, so that "
            "sentences count as words: name the language (target=zho_Hans), or give tokenize=zh, ja-mecab or char."
        ]

    def notes(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Version of sacrebleu with its signatures, and the pairs that were left out."""
        used = {self.tokenize or tokenizer_for(item.metadata["target"]) for item in examples}
        for scorer in (chrf_scorer(), *map(bleu_scorer, used)):
            scorer.corpus_score([""], [[""]])  # the signature counts the references of the last corpus
        return {
            **super().notes(examples),
            "versions": versions("sacrebleu"),
            "chrf": str(chrf_scorer().get_signature()),
            "bleu": {name: str(bleu_scorer(name).get_signature()) for name in sorted(used)},
            "comet": "not computed: it needs weights",
        }

    def _tokenizers(self) -> list[str]:
        """Of the languages that are translated into."""
        return sorted({self.tokenize or tokenizer_for(target) for _, target in self.directions})

    def _written(self, text: str, metadata: Any) -> str:
        values = {"text": text, "source": metadata["source"], "target": metadata["target"]}
        return re.sub("{(text|source|target)}", lambda found: values[found[1]], self.template)


@dataclass(frozen=True)
class _Translate(Generate):
    def group(self, example: Example) -> tuple[str, str]:
        return example.metadata["source"], example.metadata["target"]

    def prepare(self, subject: Subject, examples: Sequence[Example]) -> Any:
        set_languages(subject.tokenizer, *self.group(examples[0]))
        return super().prepare(subject, examples)

    def options(self, subject: Subject, examples: Sequence[Example]) -> dict[str, Any]:
        first = set_languages(subject.tokenizer, *self.group(examples[0]))
        return {} if first is None else {"forced_bos_token_id": first}
