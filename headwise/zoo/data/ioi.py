"""Indirect object identification: "When Mary and John went to the store, John gave a drink to" -> " Mary"."""

from __future__ import annotations

import random

from headwise.zoo.data.prompts import Prompt, Split, check_split, until
from headwise.zoo.data.words import GIFTS, NAMES, PLACES

VERSION = 1

TEMPLATES = (
    "When {one} and {two} went to the {place}, {giver} gave a {gift} to",
    "After {one} and {two} met at the {place}, {giver} handed a {gift} to",
    "While {one} and {two} were at the {place}, {giver} passed the {gift} to",
    "Then, {one} and {two} had a long day at the {place}, and {giver} gave the {gift} to",
    "Then, {one} and {two} worked at the {place}. {giver} wanted to give a {gift} to",
    "Last week {one} and {two} found a {gift} at the {place}. {giver} showed it to",
    "Friends since school, {one} and {two} walked to the {place}, where {giver} sold a {gift} to",
    "The {place} was closed when {one} and {two} arrived, so {giver} lent a {gift} to",
    "At the {place}, {one} and {two} talked for an hour before {giver} offered the {gift} to",
    "In the morning {one} and {two} left the {place}. Later {giver} sent a {gift} to",
    "It was late and {one} and {two} were still in the {place}, but {giver} brought a {gift} to",
    "Because {one} and {two} like the {place}, {giver} will give this {gift} to",
    "There is a {gift} for {one} and {two} in the {place}, but {giver} leaves it to",
    "Once {one} and {two} had seen the {place}, {giver} threw the old {gift} to",
    "The day {one} and {two} opened the {place}, {giver} promised a new {gift} to",
)
"""Each is used in both orders: the giver is named first (BABA) or second (ABBA)."""


def ioi_prompt(rng: random.Random, split: Split = "train") -> Prompt:
    """One prompt; pairs of names are held out: a pair belongs to one split in every order.

    The corruption names the other person as the giver, so that the answer becomes the giver of the clean
    prompt.

    Example:
        >>> item = ioi_prompt(random.Random(4), "test")
        >>> item.prompt, item.answer, item.wrong
        ('While Luke and Alice were at the park, Alice passed the book to', ' Luke', ' Alice')
    """
    check_split(split)
    giver, other = until(lambda: rng.sample(NAMES, 2), lambda pair: ("ioi", *sorted(pair)), split)
    number = rng.randrange(len(TEMPLATES))
    order = rng.choice(("ABBA", "BABA"))
    one, two = (other, giver) if order == "ABBA" else (giver, other)
    slots = {"one": one, "two": two, "place": rng.choice(PLACES), "gift": rng.choice(GIFTS)}
    template = TEMPLATES[number]
    places = [word.strip(".,") for word in template.split()]
    first, second, again = (places.index(f"{{{slot}}}") for slot in ("one", "two", "giver"))
    given, receiver = (second, first) if order == "ABBA" else (first, second)
    return Prompt(
        kind="ioi",
        split=split,
        prompt=template.format(giver=giver, **slots),
        answer=f" {other}",
        wrong=f" {giver}",
        corrupted=template.format(giver=other, **slots),
        corrupted_answer=f" {giver}",
        candidates=(f" {other}", f" {giver}"),
        meta={
            "template": number,
            "order": order,
            "giver": giver,
            "receiver": other,
            "place": slots["place"],
            "gift": slots["gift"],
            "positions": {"receiver": receiver, "giver": given, "giver_again": again},
        },
    )
