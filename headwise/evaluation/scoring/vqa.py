"""Accuracy of short answers against those of ten people (VQA)."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"},
    **{"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
"""Number words of VQA and their digits."""


PEOPLE = 4
"""Fewest answers with which a prediction can reach accuracy 1."""


_ARTICLES = ("a", "an", "the")


_MARKS = ';/[]"{}()=+\\_-><@`,?!'


_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
    you'll you're you've
"""


def _lacking_one(word: str) -> list[str]:
    """The word with one of its apostrophes left out."""
    marks = [place for place, letter in enumerate(word) if letter == "'"]
    return [word[:place] + word[place + 1 :] for place in marks]


_RESTORED = {short: word for word in _CONTRACTED.split() for short in _lacking_one(word)}


def normalized(answer: str, *, compat: bool = False) -> str:
    """A short answer as VQA compares it: without marks, articles and capitals, with digits for number words.

    A mark is deleted when it touches a space somewhere in the answer, or when a comma stands between digits;
    else it becomes a space.

    Args:
        answer: what was said.
        compat: leave the periods behind the first 32 in place, as the published script does, and map
            "somebody'd" to "somebodyd".

    Example:
        >>> [normalized(answer) for answer in ("Two", "a dog.", "1,000", "dont")]
        ['2', 'dog', '1000', "don't"]
    """
    text = stripped = _plain(answer)
    for mark in _MARKS:
        touches = f"{mark} " in stripped or f" {mark}" in stripped or re.search(r"\d,\d", stripped)
        text = text.replace(mark, "" if touches else " ")
    text = re.sub(r"\.(?!\d)", "", text, count=32 if compat else 0)
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    table = _RESTORED | {"somebody'd": "somebodyd"} if compat else _RESTORED
    return " ".join(table.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str], *, compat: bool = False) -> float:
    """Agreement with people, 0 to 1: the mean over them of min(1, how many of the others agree / 3).

    Of ten people 0, 1, 2, 3 and more agreeing give 0, 0.3, 0.6, 0.9 and 1 (Antol et al. 2015).

    Args:
        prediction: what the model said.
        answers: what people said, one answer each.
        compat: compare the bare texts where all people said the same, as the published script does.

    Example:
        >>> vqa_accuracy("Two.", ["2"] * 3 + ["3"] * 7)
        0.9
    """
    if compat and len(set(map(_plain, answers))) == 1:
        predicted, people = _plain(prediction), [_plain(answer) for answer in answers]
    else:
        predicted = normalized(prediction, compat=compat)
        people = [normalized(answer, compat=compat) for answer in answers]
    agree = people.count(predicted)
    total = agree * min(3, agree - 1) + (len(people) - agree) * min(3, agree)
    return total / (3 * len(people))


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
