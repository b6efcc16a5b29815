"""Phrases: their segments are exactly what CLDR gives, their links are known, and no split leaks into another."""

import gzip
import json
import random
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.zoo.data import cldr, phrases
from headwise.zoo.data.languages import LANGUAGES, OTHERS, language_of
from headwise.zoo.data.phrase import Phrase, PhrasePair, Segment, alignment, pharaoh
from headwise.zoo.data.phrases import KINDS, SPLITS, draw_pair, draw_pairs, keys_of, shipped_pairs, split_of

CODES = [language.code for language in LANGUAGES]
pairs = st.builds(
    draw_pair, st.randoms(use_true_random=False), st.sampled_from(OTHERS), st.sampled_from(SPLITS)
)


def joined(segments):
    return "".join(segment.text for segment in segments)


@pytest.mark.parametrize("code", CODES)
def test_segments_are_what_babel_formats(code):
    from babel.dates import format_date
    from babel.numbers import format_currency

    rng = random.Random(0)
    for _ in range(50):
        day = date.fromordinal(rng.randrange(712_000, 748_000))
        for style in ("full", "long"):
            segments = cldr.date_segments(day, style, code)
            assert joined(segments) == cldr.plain(format_date(day, style, locale=code))
        currency, amount = rng.choice(cldr.currencies(code)), rng.choice([2, 12.5, 1234, 9999])
        whole = format_currency(amount, currency, locale=code, format_type="name")
        assert joined(cldr.money_segments(amount, currency, code)) == cldr.plain(whole)


def test_fields_are_told_apart_where_a_number_occurs_twice():
    day = date(2011, 11, 11)
    english, chinese = (Phrase(code, tuple(cldr.date_segments(day, "full", code))) for code in ("en", "zh"))
    pair = PhrasePair("0", "full", english, chinese)
    assert [unit.text for unit in pair.source_units] == ["Friday", ",", "November", "11", ",", "2011"]
    assert [unit.text for unit in pair.target_units] == ["2011年", "11月", "11日", "星期五"]
    assert alignment(pair) == alignment(pair, sure=True) == {(0, 3), (2, 1), (3, 2), (5, 0)}
    assert [(link.source, link.target, link.label) for link in pair.links] == [
        ((0, 6), (11, 14), "weekday"),
        ((8, 16), (5, 8), "month"),
        ((17, 19), (8, 11), "day"),
        ((21, 25), (0, 5), "year"),
    ]


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_segments_and_units_tile_the_phrase(pair):
    for phrase in (pair.source, pair.target):
        assert "".join(phrase.text[start:end] for start, end in phrase.spans) == phrase.text
        assert "".join(unit.text for unit in phrase.units).replace(" ", "") == phrase.text.replace(" ", "")
        assert all(phrase.text[unit.start : unit.end] == unit.text for unit in phrase.units)
        assert [unit.start for unit in phrase.units] == sorted({unit.start for unit in phrase.units})
        assert phrase.text == phrase.text.strip()
        assert "\u00a0" not in phrase.text


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_everything_but_marks_is_linked(pair):
    links = alignment(pair)
    assert alignment(pair, sure=True) <= links
    assert {(j, i) for i, j in links} == alignment(pair.reversed())
    for side, units in enumerate((pair.source_units, pair.target_units)):
        meant = {index for index, unit in enumerate(units) if not unit.slot.startswith("mark")}
        assert meant <= {link[side] for link in links} <= set(range(len(units)))
    slots = lambda units, indices: [units[index].slot for index in indices]  # noqa: E731
    assert slots(pair.source_units, [i for i, _ in links]) == slots(pair.target_units, [j for _, j in links])


@settings(max_examples=100, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from(OTHERS),
    st.sampled_from(SPLITS),
    st.sampled_from(list(KINDS)),
)
def test_a_phrase_is_of_one_split(rng, language, split, kind):
    pair = draw_pair(rng, language, split, kind)
    assert pair.kind == kind
    assert {split_of(key) for key in keys_of(pair)} == {split}


@pytest.mark.slow
def test_no_shipped_phrase_occurs_in_training():
    held = {
        phrase.text
        for code in OTHERS
        for split in phrases.SHIPPED_SIZES
        for pair in shipped_pairs(code, split)
        for phrase in (pair.source, pair.target)
    }
    rng = random.Random(0)
    for number in range(4_000):
        pair = draw_pair(rng, OTHERS[number % len(OTHERS)], "train")
        assert not held & {pair.source.text, pair.target.text}
    for code in CODES:
        for place in cldr.territories(code):
            if split_of(f"territory/{place}") == "train":
                assert cldr.territory_segment(place, code).text not in held


def test_the_splits_have_their_shares():
    days = [split_of(f"date/{date.fromordinal(number)}") for number in range(730_000, 750_000)]
    assert days.count("test") == pytest.approx(2000, abs=200)
    assert days.count("validation") == pytest.approx(1000, abs=150)


@pytest.mark.slow
def test_every_name_occurs_in_training():
    rng = random.Random(0)
    for code in ("ki", "zh"):
        seen = [draw_pair(rng, code, "train", "territories_amount").facts for _ in range(1500)]
        assert {place for facts in seen for place in facts["territories"]} >= set(cldr.territories(code))
        assert {facts["currency"] for facts in seen} == set(cldr.currencies(code))


@pytest.mark.parametrize("code", OTHERS)
def test_shipped_phrases(code):
    for split, n in phrases.SHIPPED_SIZES.items():
        found = shipped_pairs(code, split)
        assert [pair.id for pair in found] == [f"{code}/{split}/{number}" for number in range(n)]
        assert len({pair.source.text for pair in found}) == n
        assert {pair.kind for pair in found} == set(KINDS)
        for pair in found:
            assert (pair.source.language, pair.target.language) == ("en", code)
            assert {split_of(key) for key in keys_of(pair)} == {split}


@pytest.mark.slow
def test_the_shipped_file_is_small_and_drawn_by_the_committed_code(tmp_path):
    import babel

    shipped = Path(phrases.__file__).with_name(phrases.SHIPPED)
    assert shipped.stat().st_size < 400_000
    lines = gzip.decompress(shipped.read_bytes()).splitlines()
    if json.loads(lines[0])["babel"] != babel.__version__:
        pytest.skip("another release of babel, with other names")
    phrases.write_shipped(tmp_path / "again.gz")
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()).splitlines() == lines


@pytest.mark.slow
def test_shipped_phrases_need_no_babel(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    phrases._shipped.cache_clear()
    cldr.locale_of.cache_clear()
    assert len(shipped_pairs("Kikuyu")) == phrases.SHIPPED_SIZES["test"]
    with pytest.raises(InputError, match="pip install babel"):
        cldr.locale_of("sw")


def test_the_same_seed_gives_the_same_phrases():
    first, again, other = (draw_pairs("tr", 20, split="validation", seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_pharaoh_line():
    english = Phrase("en", (Segment("Kenyan shillings", "currency"), Segment(" "), Segment("5", "amount")))
    turkish = Phrase("tr", (Segment("5", "amount"), Segment(" "), Segment("Kenya şilini", "currency")))
    assert pharaoh(PhrasePair("0", "amount", english, turkish)) == "0p1 0p2 1p1 1p2 2-0"


def test_brackets_stand_apart_in_names_and_not_in_numbers():
    segments = (Segment("Myanmar (Burma)", "territory"), Segment(" "), Segment("1,234.50", "amount"))
    assert [unit.text for unit in Phrase("en", segments).units] == ["Myanmar", "(", "Burma", ")", "1,234.50"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("xx", "train"), "none of the languages"),
        (("swahil", "train"), "swahili"),
        (("en", "train"), "English is the source"),
        (("sw", "dev"), "no split 'dev'"),
        (("sw", "test", "poem"), "no kind 'poem'"),
    ],
)
def test_unknown_names_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        draw_pair(random.Random(0), *arguments)


def test_languages_have_three_names_each():
    assert {language_of(name).code for name in ("ki", "kik_Latn", "kikuyu", "KI")} == {"ki"}
    assert len({language.tag for language in LANGUAGES}) == len(LANGUAGES) == 9
