"""Which objects a caption mentions, as CHAIR counts them (Rohrbach et al. 2018, arXiv 1809.02156)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from headwise.evaluation.data.files import read_lines, refuse
from headwise.evaluation.scoring.published import published_words

UNITS = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal"),
    *("stop light", "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball"),
    *("baseball bat", "baseball glove", "tennis racket", "wine glass", "hot dog", "cell phone"),
    *("mobile phone", "teddy bear", "hair drier", "potted plant", "laptop computer", "home plate"),
    "train track",
)
"""Two words that are one thing; the last two are not objects, but hide a plate and a train that are none."""
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_MERGED = {
    **{unit: unit for unit in UNITS},
    **{f"{age} {name}": name for age in ("baby", "adult") for name in (*_ANIMALS, "animal", "cub")},
    **{f"passenger {name}": name for name in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",
}
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*|[^\w\s]")

_SAME = {
    *("skis", "scissors", "sports", "lens", "series", "species", "always", "perhaps", "christmas", "canvas"),
    *("this", "bus", "gas", "his", "its", "was", "has", "yes"),
}
_IRREGULAR = {
    **{"men": "man", "feet": "foot", "teeth": "tooth", "geese": "goose", "mice": "mouse", "tvs": "tv"},
    **{"knives": "knife", "pocketknives": "pocketknife", "loaves": "loaf", "calves": "calf", "wives": "wife"},
    **{"wolves": "wolf", "leaves": "leaf", "shelves": "shelf", "scarves": "scarf", "halves": "half"},
    **{"taxis": "taxi", "corgis": "corgi", "paninis": "panini", "thieves": "thief", "buffaloes": "buffalo"},
    **{"ties": "tie", "bowties": "bowtie", "neckties": "necktie", "pies": "pie", "cookies": "cookie"},
    **{"movies": "movie", "collies": "collie", "hoodies": "hoodie", "selfies": "selfie"},
    **{"brownies": "brownie", "smoothies": "smoothie", "birdies": "birdie", "budgies": "budgie"},
}
_NOT_MEN = {"specimen", "omen", "abdomen", "regimen", "acumen", "ramen", "stamen", "yemen", "amen", "lumen"}


@dataclass(frozen=True)
class ObjectTable:
    """The words that mean an object.

    Attributes:
        nodes: word or pair of words -> the name of the object.
        name: where the table comes from, for the record.
        compat: read as the published script does; see `read_objects`.
    """

    nodes: Mapping[str, str]
    name: str
    compat: bool = False


@dataclass(frozen=True)
class Mention:
    """An object in a caption: the word that stands there, in the singular, and the name of the object."""

    word: str
    node: str


def read_objects(path: str | Path, *, compat: bool = False) -> ObjectTable:
    """A file of synonyms: one object per line, its words separated by comma and space, its name first.

    Args:
        path: the file.
        compat: read it as the published script does, where a word after two spaces keeps one of them and a
            word with a capital stays so, and neither is ever found in a caption; captions are read so, too.

    Raises:
        InputError: the file is missing or empty, or a word stands in two lines.
    """
    path = Path(path)
    return ObjectTable(_nodes(path, compat), path.name, compat)


def own_objects(*, compat: bool = False) -> ObjectTable:
    """The table of headwise: the 80 categories of COCO with common words for them.

    Example:
        >>> own_objects().nodes["puppy"]
        'dog'
    """
    path = Path(str(files("headwise.evaluation"))) / "data" / "coco_objects.txt"
    return ObjectTable(_nodes(path, compat), "headwise", compat)


def named_objects(names: Iterable[str], *, name: str) -> ObjectTable:
    """A table in which every object has one word, its name."""
    return ObjectTable({word: word for word in names}, name)


def mentions(caption: str, table: ObjectTable) -> list[Mention]:
    """The objects that a caption mentions, in order; one that is mentioned twice counts twice.

    Words are lower-cased and put into the singular, pairs such as "hot dog" are one word, "baby elephant" is
    an elephant and no person, and the seat of a toilet is no chair. Without `compat` any pair of words in the
    table is one word, not only those of the published list; with it words are what `published_words` makes of them.

    Example:
        >>> [mention.node for mention in mentions("Two puppies near a hot dog stand.", own_objects())]
        ['dog', 'hot dog']
    """
    words = published_words(caption) if table.compat else list(map(singular, _WORD.findall(caption.lower())))
    merged: list[str] = []
    place = 0
    while place < len(words):
        pair = " ".join(words[place : place + 2])
        unit = _MERGED.get(pair)
        if unit is None and not table.compat and " " in pair and pair in table.nodes:
            unit = pair
        merged.append(words[place] if unit is None else unit)
        place += 1 if unit is None else 2
    if "toilet" in merged and "seat" in merged:
        merged = [word for word in merged if word != "seat"]
    return [Mention(word, table.nodes[word]) for word in merged if word in table.nodes]


def singular(word: str) -> str:
    """The singular of a lower-case English noun; other words may come out changed, but not as objects.

    Example:
        >>> [singular(word) for word in ("horses", "buses", "glasses", "knives", "women", "skis")]
        ['horse', 'bus', 'glass', 'knife', 'woman', 'skis']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SAME or len(word) < 4:
        return word
    if word.endswith("children"):
        return word.removesuffix("ren")
    if word.endswith("men") and word not in _NOT_MEN:
        return word[:-2] + "an"
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(ch|sh|x|ss|zz|[^aeiou]z|(?<!o)us)es$", word):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _nodes(path: Path, compat: bool) -> dict[str, str]:
    nodes: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        words = line.strip().split(", ")
        if not compat:
            words = [word for part in line.split(",") if (word := " ".join(part.lower().split()))]
        for word in words:
            if lines.setdefault(word, number) != number:
                fact = f"The word {word!r} stands in line {lines[word]} already."
                refuse(path, number, fact, "A word can mean one object.")
            if word:
                nodes[word] = words[0]
    return nodes
