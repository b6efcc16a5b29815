"""Captions to objects, and CHAIR's counts of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise.errors import InputError
from headwise.evaluation.scoring.chair import UNITS, mentions, own_objects, read_objects, singular

TABLE = own_objects()


def nodes(caption, table=TABLE):
    return [mention.node for mention in mentions(caption, table)]


def plural(word):
    """As a child learns it; the irregular ones are listed in the test."""
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(ch|sh|x|s)$", word) else "s")


def test_the_own_table_has_the_80_categories_and_no_plurals():
    assert len(set(TABLE.nodes.values())) == 80
    for word, node in TABLE.nodes.items():
        assert " ".join(map(singular, word.split())) == word
        assert nodes(f"there is a {word} here") == [node]


def test_plurals_of_the_own_table_are_found():
    irregular = {"child", "man", "woman", "gentleman", "policeman", "policewoman", "fireman", "fisherman"}
    irregular |= {"businessman", "people", "sheep", "cattle", "ox", "oxen", "calf", "goose", "mouse", "knife"}
    irregular |= {"pocketknife", "skis", "scissors", "luggage", "baggage", "broccoli"}
    for word, node in TABLE.nodes.items():
        if word not in irregular:
            *first, last = word.split()
            assert nodes(" ".join([*first, plural(last)])) == [node], word


@pytest.mark.parametrize(
    ("many", "one"),
    [
        *(("children", "child"), ("men", "man"), ("women", "woman"), ("policemen", "policeman")),
        *(("knives", "knife"), ("loaves", "loaf"), ("calves", "calf"), ("mice", "mouse"), ("geese", "goose")),
        *(("people", "people"), ("sheep", "sheep"), ("scissors", "scissors"), ("skis", "skis")),
        *(("buses", "bus"), ("glasses", "glass"), ("couches", "couch"), ("toothbrushes", "toothbrush")),
        *(("horses", "horse"), ("vases", "vase"), ("suitcases", "suitcase"), ("boxes", "box")),
        *(("puppies", "puppy"), ("ties", "tie"), ("tvs", "tv"), ("bus", "bus"), ("tennis", "tennis")),
        *(("grass", "grass"), ("specimen", "specimen"), ("grandchildren", "grandchild")),
    ],
)
def test_singular(many, one):
    assert singular(many) == one
    assert singular(one) == one


def test_repeats_are_kept_and_in_order():
    assert nodes("A dog chases a puppy; two dogs and a cat.") == ["dog", "dog", "dog", "cat"]


def test_pairs_are_one_word():
    assert nodes("a hot dog on a stop sign") == ["hot dog", "stop sign"]
    assert nodes("the dog at the stop. Sign the book") == ["dog", "book"]  # a full stop stands between
    assert nodes("wine glasses and traffic lights") == ["wine glass", "traffic light"]
    assert nodes("a home plate beside the train tracks") == []
    assert nodes("a bow tie") == ["tie"]


def test_qualifiers_of_animals_and_vehicles_are_no_persons():
    assert nodes("a baby elephant and an adult bear") == ["elephant", "bear"]
    assert nodes("passenger trains and a passenger jet") == ["train", "airplane"]
    assert nodes("a baby and a passenger") == ["person", "person"]


def test_the_seat_of_a_toilet_is_no_chair():
    assert nodes("the seat of the toilet") == ["toilet"]
    assert nodes("a toilet seat") == ["toilet"]
    assert nodes("the seat of the car") == ["chair", "car"]


def test_compat_keeps_what_the_published_script_loses(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text(
        "motorcycle, scooter,  motor bike, moped\ncake,  cheesecake\ncell phone, iPhone\nbench, park seat\n"
    )
    caption = "a motor bike, a cheesecake, an iPhone, a moped, a park seat"
    assert nodes(caption, read_objects(path)) == ["motorcycle", "cake", "cell phone", "motorcycle", "bench"]
    assert nodes(caption, read_objects(path, compat=True)) == ["motorcycle"]


def test_three_words_never_match(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("oven, stove top oven\n")
    assert [mention.word for mention in mentions("a stove top oven", read_objects(path))] == ["oven"]


def test_a_word_in_two_lines_is_refused_with_its_lines(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("person, chef, chef\n\ntie, bow\ncake, chef\n")
    with pytest.raises(InputError, match=r"'chef' stands in line 1 already.*synonyms.txt, line 4"):
        read_objects(path)


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe\x00"[1:]])
def test_no_table(tmp_path, content):
    path = tmp_path / "synonyms.txt"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"synonyms\.txt"):
        read_objects(path)


@given(st.text())
def test_any_text_gives_objects_of_the_table(text):
    found = mentions(text, TABLE)
    assert all(TABLE.nodes[mention.word] == mention.node for mention in found)
    assert nodes(text.lower()) == [mention.node for mention in found]


@given(st.lists(st.sampled_from(sorted(set(TABLE.nodes) - {"seat"})), max_size=6))
def test_a_list_of_objects_is_read_back(words):
    assert nodes(", ".join(words)) == [TABLE.nodes[word] for word in words]


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_the_singular_is_a_word(word):
    assert re.fullmatch("[a-z]+", singular(word))


def test_every_published_pair_stays_together():
    for unit in UNITS:
        assert all(node in ("sports ball", *TABLE.nodes) for node in nodes(f"a {unit}."))
        assert len(nodes(f"a {unit}.")) <= 1
