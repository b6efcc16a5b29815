"""Cost of attention × gradient on a long text, against one forward and backward.

    python benchmarks/saliency.py --length 4096

A 8 × 512 model with grouped heads and random weights reads one text; the last token is explained. Plain runs and maps
take turns in one process; minima of CPU time. Memory is the peak of the process.
"""

from __future__ import annotations

import argparse

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
from headwise.probes.reply import question
from headwise.saliency.attention import attention_times_gradient
from headwise.saliency.explained import Explained


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = build_model("llama-like", dtype=options.dtype, positions=options.length + 8)
    ids = random_ids(options.length)[0].tolist()
    example = Explained(question(hw.wrap(model), {"text": ids, "reply": [7]}, generate=1))

    def plain() -> None:
        logits = model(**example.question.inputs).logits[0, -1]
        logits.float().log_softmax(-1)[7].backward()
        model.zero_grad()

    def explained() -> None:
        attention_times_gradient(example)

    runs = {"forward and backward": plain, "attention x gradient": explained}
    peaks = {}
    for name, run in runs.items():
        run()
        reset_peak()
        run()
        peaks[name] = peak_megabytes()
    seconds = alternating_minima(runs, repeats=options.repeats)
    first = next(iter(seconds.values()))
    rows = [
        [name, f"{seconds[name]:.2f}", f"{seconds[name] / first:.2f}", f"{peaks[name]:.0f}"] for name in runs
    ]
    print(markdown_table(["run", "CPU seconds", "ratio", "peak MB"], rows))
    print(versions())


if __name__ == "__main__":
    main()
