"""How long `import headwise` takes above `import torch`, `headwise --help` from start to end, and a report.

    python benchmarks/startup.py [--against CHECKOUT] [--runs 9]

Each number is of fresh processes, the kinds and the checkouts taking turns. With `--against`, a folder with another
version of headwise, the last column is the ratio of the smallest times, this checkout to the other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from common import markdown_table, versions

HERE = Path(__file__).resolve().parents[1]
TIMED = "import time, {before}\nt = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
REPORT = "hw.report(hw.load('zoo:lm'), {path!r})"
KINDS = {
    "import headwise, above import torch": ["-c", TIMED.format(before="torch", code="import headwise")],
    "headwise --help": ["-m", "headwise", "--help"],
    "headwise --version": ["-m", "headwise", "--version"],
    "hw.report of zoo:lm": ["-c", TIMED.format(before="headwise as hw, transformers, pandas", code=REPORT)],
}


def seconds_of(arguments: list[str], checkout: Path, page: Path) -> float:
    """Seconds that a fresh process prints, or that it takes with the interpreter's start."""
    command = [sys.executable, *(argument.replace("{path!r}", repr(str(page))) for argument in arguments)]
    variables = os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=checkout, env=variables)
    return float(done.stdout) if arguments[0] == "-c" else time.perf_counter() - start


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9, help="fresh processes per number")
    parser.add_argument("--against", type=Path, help="folder with another version of headwise")
    arguments = parser.parse_args()
    checkouts = [HERE] + ([arguments.against.resolve()] if arguments.against else [])
    seconds: dict[tuple[str, Path], list[float]] = {
        (kind, place): [] for kind in KINDS for place in checkouts
    }
    with tempfile.TemporaryDirectory() as folder:
        pages = {place: Path(folder, f"{number}.html") for number, place in enumerate(checkouts)}
        for run in range(arguments.runs + 1):
            for (kind, place), found in seconds.items():
                took = seconds_of(KINDS[kind], place, pages[place])
                if run:  # the first fills the caches of the file system
                    found.append(took)
        sizes = [f"{page.stat().st_size:,} bytes" for page in pages.values()]
    rows = []
    for kind in KINDS:
        times = [seconds[kind, place] for place in checkouts]
        ratio = [f"{min(times[0]) / min(times[1]):.2f}"] if arguments.against else []
        rows.append([kind, *(f"{min(s):.3f} / {median(s):.3f}" for s in times), *ratio])
    named = ["this", "other"][: len(checkouts)]
    header = ["what", *(f"{name}: smallest / median s" for name in named)]
    print(markdown_table([*header, *(["ratio"] if arguments.against else [])], rows))
    print(f"\nThe page: {', '.join(map(' '.join, zip(named, sizes, strict=True)))}.")
    print(f"{versions()}; {arguments.runs} fresh processes each.")


if __name__ == "__main__":
    main()
