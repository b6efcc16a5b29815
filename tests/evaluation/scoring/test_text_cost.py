"""What is done to replies, references and captions takes time in line with their length, whatever they say."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.evaluation.data.content import plain_text
from headwise.evaluation.scoring import normalisers
from headwise.evaluation.scoring.chair import mentions, own_objects
from headwise.evaluation.scoring.normalisers import normaliser
from headwise.evaluation.scoring.overlap import counts
from headwise.evaluation.scoring.published import published_words
from headwise.evaluation.scoring.vqa import normalized
from headwise.evaluation.scoring.yes_no import mme_yes_no, official_yes_no, strict_yes_no

LENGTH = 10_000
UNITS = (
    *(
        "a",
        "A1",
        "1",
        " ",
        "\n",
        "(",
        "()",
        "<",
        "[",
        "]<",
        "'",
        '"',
        ".",
        "..",
        ",",
        "-",
        "/",
        "$1",
        "%",
        "½",
    ),
    *(
        "one ",
        "hundred ",
        "two point ",
        "and a half ",
        "1,",
        "1.",
        "a.",
        "a'",
        "'s ",
        " '",
        ". ",
        ".)",
        ".a",
        ".\u2019",
    ),
    *(
        "\u0301\u0323",
        "\u0f73\uff9e",
        "\ufdfa",
        "\u00e9",
        "\u3042",
        "hot ",
        "dog-",
        "s",
        "es",
        "n't",
        "<a>(",
        "(a<b)>",
    ),
)
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "content": plain_text,
    "sentence": lambda text: plain_text(text, marks=False),
    **{name: normaliser(name) for name in ("basic", "whisper", "whisper-english")},
    "vqa": normalized,
    "chair": lambda text: mentions(text, own_objects()),
    "published chair": published_words,
    "official yes": official_yes_no,
    "strict yes": strict_yes_no,
    "mme": mme_yes_no,
    "bleu and chrf": lambda text: counts(text, text, "13a"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_is_in_line_with_length(name: str) -> None:
    FUNCTIONS[name]("a")
    texts = {unit: "a" + unit * (LENGTH // len(unit)) for unit in UNITS}
    long = {unit: taken for unit, text in texts.items() if (taken := seconds(FUNCTIONS[name], text)) >= 0.3}
    assert not long


def seconds(function: Callable[[str], object], text: str) -> float:
    """Of the processor; the best of three calls, since the garbage collector may come in between."""
    found = []
    while not found or (found[-1] >= 0.3 and len(found) < 3):
        begun = time.process_time()
        try:
            function(text)
        except InputError:
            return 0.0
        found.append(time.process_time() - begun)
    return min(found)


@settings(max_examples=50)
@given(text=st.text(st.sampled_from("aB<>[]()' .1\n½é-"), max_size=30))
@pytest.mark.parametrize("name", ["whisper", "whisper-english"])
def test_whispers_normalisers_give_what_they_give(name: str, text: str) -> None:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    own = BasicTextNormalizer() if name == "whisper" else EnglishTextNormalizer({})
    assert normalisers.normaliser(name)(text) == own(text).strip()


def test_a_number_of_thousands_of_digits_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="Whisper's normaliser fails on this text"):
        normaliser("whisper-english")("1" * 5000)
