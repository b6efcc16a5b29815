"""Readers of what is known to be right: word alignments, and the times of spoken words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path

from headwise.errors import InputError
from headwise.evaluation.data.files import read_lines, read_table, refuse
from headwise.readers.content import inside, shown
from headwise.readers.limits import current_limits, require_within
from headwise.readers.text import read_text


@dataclass(frozen=True)
class Word:
    """A spoken word and when it is heard, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Links:
    """Gold links (source, target) of one sentence pair, counted from 0; `possible` holds the sure ones too."""

    sure: frozenset[tuple[int, int]]
    possible: frozenset[tuple[int, int]]


_LINK = re.compile(r"(\d{1,9})([-p?])(\d{1,9})", re.ASCII)
_LINE_OF_LINK = re.compile(r"\d{1,9} \d{1,9} \d{1,9}( [SP])?", re.ASCII)


def read_links(path: str | Path, lengths: Sequence[tuple[int, int]], *, base: int = 0) -> list[Links]:
    """Gold alignments, one `Links` per sentence pair.

    Two forms are known. Pharaoh: line i belongs to pair i, `0-0 1-2` are sure links and `1p2` or `1?2`
    possible ones. NAACL: one link per line, `sentence source target` and then `S` or `P`, where sentences
    count from 1.

    Args:
        path: the file.
        lengths: words of the source and of the target of every pair.
        base: what the first word is called, 0 or 1.

    Raises:
        InputError: a link is malformed or names a word that is not there, or the number of lines is wrong.
    """
    path, lines = Path(path), read_text(path).removesuffix("\n").split("\n")
    naacl = next((bool(re.fullmatch(r"\s*\d+\s.*", line)) for line in lines if line.strip()), False)
    links: list[dict[tuple[int, int], bool]] = [{} for _ in lengths]

    def add(number: int, pair: int, source: str, target: str, sure: bool) -> None:
        words, others = lengths[pair]
        place = (int(source) - base, int(target) - base)
        if not (0 <= place[0] < words and 0 <= place[1] < others):
            fact = f"The link {source}-{target} leaves a pair of {words} and {others} words."
            refuse(path, number, fact, f"Words are counted from {base}; see the option base.")
        links[pair][place] = links[pair].get(place, False) or sure

    if naacl:
        for number, line in enumerate(lines, start=1):
            parts = line.split()
            if not parts:
                continue
            if not _LINE_OF_LINK.fullmatch(" ".join(parts)):
                refuse(path, number, f"This is no link: {line!r}.", "Write: sentence source target S.")
            if not 0 < int(parts[0]) <= len(lengths):
                refuse(path, number, f"There is no sentence {parts[0]}.", f"There are {len(lengths)}.")
            add(number, int(parts[0]) - 1, parts[1], parts[2], parts[-1] != "P")
    else:
        if len(lines) != len(lengths):
            fact = f"There are {len(lines)} lines of links for {len(lengths)} sentence pairs."
            refuse(path, min(len(lines), len(lengths)) + 1, fact, "Give one line per pair.")
        for number, line in enumerate(lines, start=1):
            items = line.split()
            require_within(
                len(items), current_limits().columns, "links of a line", where=f"{shown(path)}, line {number}"
            )
            for item in items:
                match = _LINK.fullmatch(item)
                if match is None:
                    refuse(path, number, f"This is no link: {item!r}.", "Write 0-1, or 0p1 where possible.")
                add(number, number - 1, match[1], match[3], match[2] == "-")
    return [
        Links(frozenset(place for place, sure in item.items() if sure), frozenset(item)) for item in links
    ]


def read_word_times(path: str | Path) -> dict[str, list[Word]]:
    """When words are heard, by utterance.

    `.ctm`: `utterance channel start duration word`; `.tsv`: columns id, word_idx, word, start, end;
    `.TextGrid`: the interval tier `words` of the utterance that the file is named after; a folder: all of
    its TextGrids. All in seconds.

    Raises:
        InputError: the file is none of these, or a time is no number or runs backwards.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(item.name for item in path.iterdir() if item.suffix.lower() == ".textgrid")
        if not names:
            raise InputError("The folder holds no TextGrid.", evidence=shown(path))
        files = [inside(name, path, where=shown(path)) for name in names]
        return {name: words for file in files for name, words in read_word_times(file).items()}
    match path.suffix.lower():
        case ".ctm":
            timed = _ctm(path)
        case ".tsv":
            timed = _timed_table(path)
        case ".textgrid":
            timed = _textgrid(path)
        case _:
            raise InputError(
                "Word times of this kind are not known.",
                evidence=shown(path),
                remedy="Give a .ctm, .tsv or .TextGrid file, or a folder of TextGrids.",
            )
    words: dict[str, list[Word]] = {}
    for line, utterance, word, start, end in timed:
        if not (isfinite(start) and isfinite(end) and 0 <= start <= end):
            refuse(path, line, f"The word lasts from {start} to {end} s.", "Give seconds from 0 on.")
        words.setdefault(utterance, []).append(Word(word, start, end))
    return {name: sorted(items, key=lambda word: word.start) for name, items in words.items()}


def _ctm(path: Path) -> Iterator[tuple[int, str, str, float, float]]:
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split()
        if not parts or line.startswith(";;"):
            continue
        if len(parts) < 5:
            refuse(
                path, number, "The line has too few fields.", "Write: utterance channel start duration word."
            )
        start, length = _number(path, number, parts[2]), _number(path, number, parts[3])
        yield number, parts[0], parts[4], start, start + length


_TIMED = {"id": "one", "word_idx": "0", "word": "what", "start": "0.12", "end": "0.31"}


def _timed_table(path: Path) -> Iterator[tuple[int, str, str, float, float]]:
    for row in read_table(path, _TIMED):
        start, end = (_number(path, row.line, row.fields[name]) for name in ("start", "end"))
        yield row.line, row.fields["id"], row.fields["word"], start, end


def _number(path: Path, line: int, text: str) -> float:
    if not _SECONDS.fullmatch(text):
        refuse(path, line, f"{text!r} is no time.", "Give seconds.")
    return float(text)


_SECONDS = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_VALUE = re.compile(
    r'"((?:[^"]++|"")*+)"|(?<!\S)(<\w+>)(?!\S)|(?<!\S)([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\S)', re.ASCII
)


def _textgrid(path: Path) -> Iterator[tuple[int, str, str, float, float]]:
    """The tier `words`, in the long or the short form: both are one sequence of values, as Praat reads it."""
    text = read_text(path)
    values = _VALUE.finditer(text)
    known = [value[1] for value in islice(values, 2)] == ["ooTextFile", "TextGrid"]
    kind = None
    for value in values if known else ():
        if (kind, value[1]) == ("IntervalTier", "words"):
            break
        kind = value[1]
    else:
        raise InputError(
            "The file is no TextGrid with a tier `words`.",
            evidence=shown(path),
            remedy="Save it from Praat as text, with the words in an interval tier of that name.",
        )
    line, seen = text.count("\n", 0, value.start()) + 1, value.start()
    try:
        count = int([value[3] for value in islice(values, 3)][2])  # behind the start and the end of the tier
        require_within(count, current_limits().lines, "intervals", where=shown(path))
        for _ in range(count):
            start, end, word = islice(values, 3)
            line, seen = line + text.count("\n", seen, start.start()), start.start()
            if word[1].strip():
                yield line, path.stem, word[1].replace('""', '"').strip(), float(start[3]), float(end[3])
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, AttributeError):
        refuse(path, line, "The tier `words` is damaged.", "Every interval has a start, an end and a text.")
