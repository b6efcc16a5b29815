"""Yes or no in an answer, as the scripts of POPE and MME read it."""

from __future__ import annotations

import re


def official_yes_no(text: str) -> str:
    """What POPE's script reads in an answer: "no" if its first sentence has No, no or not, else "yes".

    So "NO", "none", "there isn't" and nothing at all mean "yes".

    Example:
        >>> official_yes_no("No, there is none."), official_yes_no("NO"), official_yes_no("")
        ('no', 'yes', 'yes')
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def strict_yes_no(text: str) -> str:
    """The first of the words yes and no, in upper or lower case; "unknown" if there is neither.

    Example:
        >>> strict_yes_no("NO!"), strict_yes_no("Nothing of that kind.")
        ('no', 'unknown')
    """
    found = re.search(r"\b(yes|no)\b", text.lower())
    return found[1] if found else "unknown"


def mme_yes_no(text: str) -> str:
    """What MME's tool reads in the first four characters of an answer: "yes", "no" or "other".

    Example:
        >>> mme_yes_no("Yes, it is."), mme_yes_no("Nothing"), mme_yes_no("It is not.")
        ('yes', 'no', 'other')
    """
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"
