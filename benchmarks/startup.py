"""How long `import headwise` takes above `import torch`, and `headwise --help` from start to end.

    python benchmarks/startup.py

Each number is the median wall time over fresh processes, the kinds taking turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

from common import markdown_table, versions

IMPORT = "import time, torch; t = time.perf_counter(); import headwise; print(time.perf_counter() - t)"
HELP = [sys.executable, "-m", "headwise", "--help"]


def import_seconds() -> float:
    """Seconds that `import headwise` adds in a fresh process that has loaded torch."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def help_seconds() -> float:
    """Wall seconds of `headwise --help`, the interpreter's start included."""
    start = time.perf_counter()
    subprocess.run(HELP, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9, help="fresh processes per number")
    arguments = parser.parse_args()
    kinds = {"import headwise, above import torch": import_seconds, "headwise --help": help_seconds}
    for measure in kinds.values():
        measure()  # fills the caches of the file system
    seconds = {name: [] for name in kinds}
    for _ in range(arguments.runs):
        for name, measure in kinds.items():
            seconds[name].append(measure())
    rows = [[name, f"{median(s):.3f}", f"{min(s):.3f}", f"{max(s):.3f}"] for name, s in seconds.items()]
    print(markdown_table(["what", "median s", "smallest s", "largest s"], rows))
    print(f"\n{versions()}; {arguments.runs} fresh processes each.")


if __name__ == "__main__":
    main()
