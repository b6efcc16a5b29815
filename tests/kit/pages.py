"""The code of README and docs: blocks, what they print, and the `headwise` commands among them."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md")))

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+)(?P<language>\w+)(?P<options>[^\n]*)\n(?P<body>.*?)^(?P=indent)(?P=ticks)[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
_TIMES = re.compile(r"time\s+[\d.]+\s+CPU\s+[\d.]+")
SHELLS = ("sh", "bash", "console")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Line of its first line of code."""
    language: str
    options: tuple[str, ...]
    body: str
    expected: str | None
    """The `text` block right behind it, which shows what it prints."""

    @property
    def file(self) -> str | None:
        """The name of the file that it is, where it has a title."""
        titles = [option for option in self.options if option.startswith('title="')]
        return titles[0].removeprefix('title="').removesuffix('"') if titles else None


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """All fenced blocks of a page, also those in HTML comments, in order."""
    text = page.read_text(encoding="utf-8") if text is None else text
    found = list(_BLOCK.finditer(text))
    listed = []
    for here, after in zip_longest(found, found[1:]):
        close = after is not None and not text[here.end() : after.start()].strip()
        shown = after["body"] if close and after is not None and after["language"] == "text" else None
        indent = here["indent"]
        body = "".join(line.removeprefix(indent) for line in here["body"].splitlines(keepends=True))
        line = text.count("\n", 0, here.start("body")) + 1
        listed.append(Block(page, line, here["language"], tuple(here["options"].split()), body, shown))
    return listed


def python_blocks(page: Path) -> list[Block]:
    """The Python of a page that is to run."""
    return [block for block in blocks(page) if block.language == "python" and "notest" not in block.options]


def run(block: Block, names: dict[str, object]) -> str:
    """Run a block in the names of its page; what it prints. A traceback has the line of the page."""
    out = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.body, str(block.page), "exec")
    with redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def commands(page: Path) -> Iterator[tuple[Block, list[str], str]]:
    """Every `headwise` command of a page: its block, its words, and the output shown for it ("" where none is)."""
    for block in blocks(page):
        if block.language not in SHELLS:
            continue
        lines = block.body.replace("\\\n", " ").splitlines()
        for at, line in enumerate(lines):
            command = line.removeprefix("$ ")
            if not command.startswith("headwise "):
                continue
            shown = []
            for later in lines[at + 1 :]:
                if block.language != "console" or later.startswith("$ "):
                    break
                shown.append(later)
            yield block, shlex.split(command, comments=True), "\n".join(shown)


def differs(expected: str, got: str) -> str:
    """Why what was printed is not what the page shows; "" when it is.

    Spaces count as one. A line `...` stands for any lines. Numbers may differ by one in the last digit shown, or by a
    hundredth; times may be anything.
    """
    shown, printed = _lines(expected), _lines(got)
    at = 0
    skipping = False
    for line in shown:
        if line == "...":
            skipping = True
            continue
        while skipping and at < len(printed) and not _alike(line, printed[at]):
            at += 1
        skipping = False
        if at >= len(printed):
            return f"the page shows {line!r}, which was not printed"
        if not _alike(line, printed[at]):
            return f"the page shows {line!r}, printed was {printed[at]!r}"
        at += 1
    return "" if skipping or at == len(printed) else f"printed, but not shown: {printed[at]!r}"


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in _TIMES.sub("time", text).splitlines() if line.strip()]


def _alike(shown: str, printed: str) -> bool:
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", printed):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(_near(a, b) for a, b in pairs)


def _near(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    a, b = (float(number.replace(",", "")) for number in (shown, printed))
    if "." not in shown and "e" not in shown:
        return False  # counts, positions and numbers of heads
    digits = len(shown.partition(".")[2].partition("e")[0])
    return abs(a - b) <= max(1.01 * 10.0**-digits if "e" not in shown else 0.0, 0.01 * abs(a))
