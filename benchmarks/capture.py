"""What it costs to capture statistics of every attention head, against a plain forward and other tools.

    python benchmarks/capture.py                                   # everything; about an hour on one core
    python benchmarks/capture.py --models llama-like --lengths 512 1024 --dtypes fp32
    python benchmarks/capture.py --device cuda --ways "headwise stats"

`ratio` is the smallest CPU time of the capture over that of the plain forward, the two taking turns in a
fresh process. `MB above plain` is the peak memory of one capture above that of one plain forward, each in a
fresh process of its own, after a short warm-up. With `--device cuda`, times are wall times of finished work and
memory is what tensors hold on the GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from itertools import product

import torch
from common import (
    DTYPES,
    MODELS,
    RETURN_MEMORY,
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
from peers import WAYS

PLAIN = "plain sdpa"
WARM_UP = 64
"""Length of the warm-up: code is loaded and headwise's self-check is done before anything is measured."""


def measure_memory(way: str, model_name: str, dtype: str, length: int, device: str) -> dict[str, float]:
    """Peak memory (MB) of one run of a way, in this process."""
    ids = random_ids(length).to(device)
    run = WAYS[way](build_model(model_name, dtype=dtype, positions=length).to(device))
    run(ids[:, :WARM_UP])
    reset_peak(device)
    run(ids)
    return {"peak": peak_megabytes(device)}


def measure_time(
    way: str, model_name: str, dtype: str, length: int, repeats: int, device: str
) -> dict[str, float]:
    """Smallest times (s) of a way and of the plain forward, in this process."""
    ids = random_ids(length).to(device)
    runs = {
        name: WAYS[name](build_model(model_name, dtype=dtype, positions=length).to(device))
        for name in (PLAIN, way)
    }
    for run in runs.values():
        run(ids[:, :WARM_UP])
    times = alternating_minima(
        {name: lambda run=run: run(ids) for name, run in runs.items()}, repeats=repeats, device=device
    )
    return {"plain": times[PLAIN], "way": times[way]}


def rows(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The table, one row per model, dtype, length and way."""
    for setting in product(arguments.models, arguments.dtypes, arguments.lengths):
        task = dict(zip(("model_name", "dtype", "length"), setting, strict=True))
        task["device"] = arguments.device
        floor = memory(task | {"way": PLAIN}, arguments)
        for way in arguments.ways:
            times = run_fresh(
                __file__,
                task
                | {"way": way, "measure": "time", "repeats": arguments.repeats, "threads": arguments.threads},
                timeout=arguments.timeout,
            )
            peak = {} if "cannot" in times else memory(task | {"way": way}, arguments)
            yield [*map(str, setting), way, *describe(times, peak, floor)]


def memory(task: dict, arguments: argparse.Namespace) -> dict:
    """`measure_memory` in a fresh process."""
    task = task | {"measure": "memory", "threads": arguments.threads}
    return run_fresh(__file__, task, timeout=arguments.timeout, environment=RETURN_MEMORY)


def describe(times: dict, peak: dict, floor: dict) -> list[str]:
    """The cells plain s, s, ratio, MB above plain, and a note."""
    if "cannot" in times:
        return ["", "", "", "", times["cannot"]]
    above = f"{peak['peak'] - floor['peak']:.0f}" if "peak" in peak and "peak" in floor else ""
    ratio = times["way"] / times["plain"]
    return [f"{times['plain']:.4f}", f"{times['way']:.4f}", f"{ratio:.3f}", above, peak.get("cannot", "")]


def work(task: dict) -> None:
    """Measure one thing and print it as JSON, for the process that asked."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(task.pop("threads"))
    measure = {"time": measure_time, "memory": measure_memory}[task.pop("measure")]
    try:
        with torch.no_grad():
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
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[way for way in WAYS if way != PLAIN],
        default=[way for way in WAYS if way != PLAIN],
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way; the fastest counts")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one row")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    if arguments.device == "cpu":
        prove_memory_measure()
    header = ["model", "dtype", "T", "way", "plain s", "s", "ratio", "MB above plain", "note"]
    table = []
    for row in rows(arguments):
        table.append(row)
        print(" ".join(row), file=sys.stderr, flush=True)
    print(markdown_table(header, table))
    print(
        f"\n{versions(arguments.device)}; {arguments.threads} thread(s), {arguments.repeats} repeats, minima."
    )


if __name__ == "__main__":
    main()
