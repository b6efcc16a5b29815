"""Words of a caption as the published script of CHAIR has them: NLTK's `word_tokenize`, pattern's `singularize`.

Both are followed where it decides about a noun: contractions such as "cannot", abbreviations and rare Latin plurals
are left as they are.
"""

from __future__ import annotations

import re

_MARK = r"[)\";}\]*:@'({\[!?‘’“”«»]"
_LATER = rf"\S{{0,1000}}[.?!](?:\s+\S|{_MARK})"
"""A further end of a sentence before the next blank: of several only the last is one."""
_STEPS = tuple(
    (re.compile(pattern), apart)
    for pattern, apart in (
        (rf"(?<=[^.])\.(?=\s|[\])}}>\"'»”’\s]*$|(?!{_LATER}){_MARK})", " . "),
        ("''|[«“‘„»”`\"’]", r" \g<0> "),
        (r"(?<!\w)'(?!(?:re|ve|ll|[mtsdn])\b)(?=\w)", "' "),
        (r"([:,])(\D|$)", r" \1 \2"),
        (r"\.{2,}|--|[;@#$%&?!*\[\](){}<>‒-―]", r" \g<0> "),
        (r"(?<=[^'\s])(?:'(?:[smd]|ll|re|ve)?|n't)(?=\s|$)", r" \g<0> "),
    )
)
_KEPT = (
    *(
        "debris",
        "headquarters",
        "pincers",
        "diabetes",
        "herpes",
        "pliers",
        "breeches",
        "proceedings",
        "britches",
    ),
    *(
        "rabies",
        "innings",
        "chassis",
        "scissors",
        "christmas",
        "gallows",
        "clippers",
        "series",
        "measles",
        "news",
    ),
    *("shears", "species", "mumps", "corps", "swiss", "graffiti", "georgia", "happiness", "progress"),
)
_IRREGULAR = {
    **{"children": "child", "men": "man", "people": "person", "geese": "goose", "oxen": "ox", "kine": "cow"},
    **{"feet": "foot", "teeth": "tooth", "leaves": "leaf", "loaves": "loaf", "mongooses": "mongoose"},
    **{"axes": "axe", "moves": "move", "opuses": "opus", "sexes": "sex", "brethren": "brother", "our": "my"},
}
_PLURALS = tuple(
    (re.compile(f"{pattern}$"), one)
    for pattern, one in (
        ("(?:dogg|aunt|bird|pix|hank|bog|lass|cook|coll|hipp|zomb|bean|vegg)ies", r"\g<0>"),
        ("(.)ae", r"\1a"),
        ("(.)eaux", r"\1eau"),
        ("(quiz)zes", r"\1"),
        ("(ap|vert|ind)ices", r"\1ex"),
        ("(alias|status)es", r"\1"),
        ("([octp|vir])i", r"\1us"),
        ("(cris|ax|test)es", r"\1is"),
        ("(o|bus|x|ch|ss|sh)es", r"\1"),
        ("([ml|])ice", r"\1ouse"),
        ("(mov|omb)ies", r"\1ie"),
        ("([^aeiouy]|qu)ies", r"\1y"),
        ("([aeo]l|[^d]ea|ar)ves", r"\1f"),
        ("((?:er|[aeo]|[sth]i)ve)s", r"\1"),
        ("([lr])ves", r"\1f"),
        ("([^f])ves", r"\1fe"),
        ("([ti])a", r"\1um"),
        ("s", ""),
    )
)


def published_words(caption: str) -> list[str]:
    """The words of a caption, lower-cased and in the singular as pattern makes it: "bus" is "bu", "ties" are "ty".

    Marks are words of their own, but a slash, a hyphen or a full stop inside a word is part of it.

    Example:
        >>> published_words("Two buses, a bus/van.")
        ['two', 'bus', ',', 'a', 'bus/van', '.']
    """
    text = caption.lower()
    for pattern, apart in _STEPS:
        text = pattern.sub(apart, text)
    return [published_singular(word) for word in text.split()]


def published_singular(word: str) -> str:
    """What pattern's `singularize` makes of a lower-case noun; of "glass" it makes "glas".

    Example:
        >>> [published_singular(word) for word in ("dogs", "bus", "ties", "canoes", "people", "scissors")]
        ['dog', 'bu', 'ty', 'cano', 'person', 'scissors']
    """
    if any(kept.endswith(word) for kept in _KEPT):
        return word
    for many, one in _IRREGULAR.items():
        if word.endswith(many):
            return word.removesuffix(many) + one
    for pattern, one in _PLURALS:
        if pattern.search(word):
            return pattern.sub(one, word)
    return word
