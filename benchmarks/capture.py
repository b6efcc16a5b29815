"""What it costs to capture statistics of every attention head, against a plain forward and other tools.

    python benchmarks/capture.py                                   # everything; about an hour on one core
    python benchmarks/capture.py --models llama-like --lengths 512 1024 --dtypes fp32

Every row of the table comes from a fresh process, which first takes the peak memory of one run after a
short warm-up, then lets the plain forward and the capture take turns. `ratio` is the smallest CPU time of
the capture over that of the plain forward; `MB above plain` is the difference of the two processes' peaks.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings

import torch
from common import (
    DTYPES,
    MODELS,
    CannotRunError,
    alternating_minima,
    build_model,
    markdown_table,
    peak_megabytes,
    prove_memory_measure,
    random_ids,
    reset_peak,
    run_fresh,
    versions,
)
from peers import WAYS, plain

WARM_UP = 64
"""Length of the warm-up: code is loaded and headwise's self-check is done before anything is measured."""


def measure(
    way: str, model_name: str, dtype: str, length: int, repeats: int, threads: int
) -> dict[str, float]:
    """Peak memory (MB) and smallest CPU times (s) of one way, in this process."""
    torch.set_num_threads(threads)
    ids = random_ids(length)
    with torch.no_grad():
        run = WAYS[way](build_model(model_name, dtype=dtype, positions=length))
        run(ids[:, :WARM_UP])
        reset_peak()
        run(ids)
        peak = peak_megabytes()
        if way == "plain sdpa":
            return {"peak": peak}
        base = plain(build_model(model_name, dtype=dtype, positions=length))
        base(ids[:, :WARM_UP])
        times = alternating_minima({"plain": lambda: base(ids), "way": lambda: run(ids)}, repeats=repeats)
    return {"peak": peak, **times}


def rows(arguments: argparse.Namespace) -> list[list[str]]:
    """The table, one row per model, dtype, length and way."""
    table = []
    for model_name in arguments.models:
        for dtype in arguments.dtypes:
            for length in arguments.lengths:
                setting = {"model_name": model_name, "dtype": dtype, "length": length}
                floor = None
                for way in arguments.ways:
                    result = run_fresh(
                        __file__,
                        {"way": way, **setting, "repeats": arguments.repeats, "threads": arguments.threads},
                        timeout=arguments.timeout,
                    )
                    if way == "plain sdpa":
                        floor = result.get("peak")
                    cells = describe(result, floor)
                    table.append([model_name, dtype, str(length), way, *cells])
                    print(" ".join(table[-1]), file=sys.stderr, flush=True)
    return table


def describe(result: dict, floor: float | None) -> list[str]:
    """The cells plain CPU s, CPU s, ratio, MB above plain, and a note."""
    if "cannot" in result:
        return ["", "", "", "", result["cannot"]]
    above = "" if floor is None else f"{result['peak'] - floor:.0f}"
    if "way" not in result:
        return ["", "", "", above, ""]
    ratio = result["way"] / result["plain"]
    return [f"{result['plain']:.2f}", f"{result['way']:.2f}", f"{ratio:.3f}", above, ""]


def work(task: dict) -> None:
    """Measure one row and print it as JSON, for the process that asked."""
    warnings.simplefilter("ignore")
    try:
        print(json.dumps(measure(**task)))
    except CannotRunError as reason:
        print(json.dumps({"cannot": str(reason)}))


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way; the fastest counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one row")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    prove_memory_measure()
    header = ["model", "dtype", "T", "way", "plain CPU s", "CPU s", "ratio", "MB above plain", "note"]
    print(markdown_table(header, rows(arguments)))
    print(f"\n{versions()}; {arguments.threads} thread(s), {arguments.repeats} repeats, minima.")


if __name__ == "__main__":
    main()
