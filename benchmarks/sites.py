"""What 30 seconds of Whisper cost when some sites are captured, against all of them and against none.

    python benchmarks/sites.py                     # about a minute on one core
    python benchmarks/sites.py --tokens 50 --repeats 5

The model has the shape of Whisper base (6 + 6 layers, 512 wide, 8 heads, 1,500 encoder positions) and random weights.
It writes `--tokens` tokens, greedily. `ratio` is the smallest CPU time of a way over that of plain `generate`, the ways
taking turns in one process; `MB above plain` is the peak memory of one run above that of a plain one, each in a fresh
process; `MB kept` is the trace.
"""

from __future__ import annotations

import argparse
import json
import warnings
from typing import TYPE_CHECKING, Any

import torch
from common import (
    RETURN_MEMORY,
    alternating_minima,
    markdown_table,
    peak_megabytes,
    prove_memory_measure,
    reset_peak,
    run_fresh,
    versions,
)

import headwise as hw

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

WAYS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "stats of all": {},
    'sites="cross"': {"sites": "cross"},
    'stats of all, maps="cross"': {"maps": "cross"},
    'maps="cross" alone': {"stats": False, "maps": "cross"},
    "maps of one head alone": {"stats": False, "maps": {"kind": "cross", "heads": [(4, 6)]}},
    "maps of all alone": {"stats": False, "maps": True},
}


def build() -> WhisperForConditionalGeneration:
    """Whisper base with random weights."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    size = {"d_model": 512, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048}
    layers = {"encoder_layers": 6, "decoder_layers": 6}
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8}
    return WhisperForConditionalGeneration(WhisperConfig(**size, **layers, **heads)).eval()


def write(model: Any, tokens: int, options: dict[str, Any] | None) -> float:
    """One `generate` over 30 seconds of noise; MB that the capture kept."""
    noise = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    length = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False}
    if options is None:
        model.generate(noise, **length)
        return 0.0
    with hw.capture(model, check=False, **options) as trace:
        model.generate(noise, **length)
    return sum(tensor.nbytes for record in trace.records.values() for tensor in record.values()) / 2**20


def measure_memory(way: str, tokens: int) -> dict[str, float]:
    """Peak memory (MB) of one run, and what the trace holds, in this process."""
    model = build()
    write(model, 1, None)
    reset_peak()
    kept = write(model, tokens, WAYS[way])
    return {"peak": peak_megabytes(), "kept": kept}


def measure_time(tokens: int, repeats: int) -> dict[str, float]:
    """Smallest CPU time (s) of every way, in this process."""
    model = build()
    works = {way: lambda options=options: write(model, tokens, options) for way, options in WAYS.items()}
    return alternating_minima(works, repeats=repeats)


def work(task: dict[str, Any]) -> None:
    """Measure one thing and print it as JSON, for the process that asked."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(task.pop("threads"))
    measure = {"time": measure_time, "memory": measure_memory}[task.pop("measure")]
    with torch.no_grad():
        print(json.dumps(measure(**task)))


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=30, help="tokens to write")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way; the fastest counts")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    prove_memory_measure()
    task = {"tokens": arguments.tokens, "threads": arguments.threads}
    times = run_fresh(__file__, task | {"measure": "time", "repeats": arguments.repeats}, timeout=1800)
    rows, floor = [], 0.0
    for way in WAYS:
        memory = run_fresh(
            __file__, task | {"measure": "memory", "way": way}, timeout=600, environment=RETURN_MEMORY
        )
        floor = floor or memory["peak"]
        ratio, above = times[way] / times["plain"], memory["peak"] - floor
        rows.append([way, f"{times[way]:.2f}", f"{ratio:.3f}", f"{above:.0f}", f"{memory['kept']:.1f}"])
    print(markdown_table(["way", "CPU s", "ratio", "MB above plain", "MB kept"], rows))
    print(f"\n{versions()}; {arguments.threads} thread(s), {arguments.repeats} repeats, minima.")


if __name__ == "__main__":
    main()
