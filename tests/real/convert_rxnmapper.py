"""RXNMapper: a transformers folder already, but for its tokenizer and the form of its weights."""

from __future__ import annotations

import json
from pathlib import Path

PATTERN = (
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])"
)
"""Tokens of a reaction in SMILES, by Schwaller et al. 2018."""


def convert(packages: list[Path], out: Path) -> None:
    """Write the masked language model, and the tokenizer that its list of words stands for."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import AlbertForMaskedLM, PreTrainedTokenizerFast

    (source,) = packages[0].glob("rxnmapper/models/transformers/*")
    AlbertForMaskedLM.from_pretrained(source).save_pretrained(out)
    words = (source / "vocab.txt").read_text().splitlines()
    numbers = {word: number for number, word in enumerate(words)}
    marks = json.loads((source / "special_tokens_map.json").read_text())
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=marks["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    first, last = marks["cls_token"], marks["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(mark, numbers[mark]) for mark in (first, last)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **marks).save_pretrained(out)
