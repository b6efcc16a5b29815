"""Cost of what analyses need to be captured, and of the analyses themselves, against plain forwards.

    python benchmarks/analyses.py --length 1024
    python benchmarks/analyses.py --length 8192 --repeats 3

A 12 × 768 model with random weights (the cost does not depend on them) reads one text plainly and under captures,
taking turns in one process; minima of CPU time. Every registered analysis of a trace is then run on its own capture.
Memory is what the peak of a capture adds to that of the plain forward.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from common import (
    alternating_minima,
    build_model,
    markdown_table,
    peak_megabytes,
    random_ids,
    reset_peak,
    versions,
)

import headwise as hw
from headwise.analyses.calls import analysis_call, needs_of
from headwise.errors import CaptureError

CAPTURES: dict[str, dict[str, Any]] = {
    "statistics": {},
    "near=10": {"near": True},
    "top=1, 5, 10": {"top": True},
    "later=10 to 100": {"later": True},
    "all of them": {"near": True, "top": True, "later": True},
}


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gpt2-like")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model = build_model(options.model, dtype=options.dtype, positions=options.length)
    ids = random_ids(options.length)

    def plain() -> None:
        with torch.no_grad():
            model(ids)

    def captured(**keep: Any) -> hw.Trace:
        with hw.capture(model, **keep) as trace:
            plain()
        return trace

    captured()  # checks the model once
    works = {"plain": plain} | {name: (lambda keep=keep: captured(**keep)) for name, keep in CAPTURES.items()}
    best = alternating_minima(works, repeats=options.repeats)
    extra = {name: _peak(work) for name, work in works.items()}
    print(f"{options.model}, {options.dtype}, {options.length} tokens; {versions()}\n")
    rows = [
        [
            name,
            f"{1000 * seconds:.0f}",
            f"{seconds / best['plain']:.2f}",
            f"{extra[name] - extra['plain']:+.0f}",
        ]
        for name, seconds in best.items()
    ]
    print(markdown_table(["capture", "ms", "of a plain forward", "MB"], rows), "\n")
    print(
        markdown_table(
            ["analysis of a trace", "needs", "ms", "of a plain forward"], _analyses(captured, best["plain"])
        )
    )


def _peak(work: Any) -> float:
    reset_peak()
    work()
    return peak_megabytes()


def _analyses(captured: Any, plain: float) -> list[list[str]]:
    rows = []
    for name in hw.analyses.names():
        record = hw.analyses.get(name)
        if record.inputs != "trace":
            continue
        keep = needs_of([analysis_call(name)])
        try:
            trace = captured(**keep)
            start = time.process_time()
            record(trace)
            seconds = time.process_time() - start
        except CaptureError as error:
            rows.append([name, ", ".join(keep), "refused", str(error)[:60]])
            continue
        rows.append([name, ", ".join(keep), f"{1000 * seconds:.0f}", f"{seconds / plain:.2f}"])
    return rows


if __name__ == "__main__":
    main()
