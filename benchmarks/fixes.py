"""What every fix does to the unharmed models of the zoo: paired comparisons, one table per task.

    python benchmarks/fixes.py
    python benchmarks/fixes.py --tasks pope-adversarial --n 400

Fixes that have constants to fit are fitted on 200 examples of the task's validation split. Controls stand beside the
fixes: VHR with as many heads chosen at random, VAR with a threshold so low that ordinary tokens count as sinks, and ACT
on heads that nobody chose.
The same arms from the command line: `headwise compare zoo:vlm --task pope-adversarial --fix VAR --fix VHR`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import torch
from common import markdown_table, versions

SEEING = {
    "VAR": "VAR",
    "VAR, forced": "VAR:sink_dims=[124],tau=2.0,layers=[1,2,3],rho=0.5",
    "VHR": "VHR",
    "VHR, alpha 1.5": "VHR:alpha=1.5",
    "VHR, random heads": "VHR:choose=random",
    "ACT": "ACT",
    "VAR, forced + VHR": "VAR:sink_dims=[124],tau=2.0,layers=[1,2,3],rho=0.5+VHR",
}
EVERY = [[2, head] for head in range(8)]
READING = {
    "ACT": "ACT",
    "ACT, all layers": "ACT:layers=[0,1,2,3]",
    "ACT, any gain": "ACT:layers=[0,1,2,3],rule=improves",
    "ACT, alpha 3": "ACT:layers=[0,1,2,3],alpha=3",
    "ACT, all heads of layer 2": f"ACT:heads={EVERY}",
}
TASKS = {
    "pope-random": ("zoo:vlm", SEEING, ("accuracy",)),
    "pope-popular": ("zoo:vlm", SEEING, ("accuracy",)),
    "pope-adversarial": ("zoo:vlm", SEEING, ("accuracy",)),
    "chair": ("zoo:vlm", SEEING, ("chair_i", "chair_s", "recall", "length")),
    "multiple-choice": ("zoo:lm", READING, ("accuracy",)),
    "perplexity": ("zoo:lm", READING, ("perplexity",)),
}
"""Task -> model, arms, metrics to show."""


def rows(task: str, n: int | None, seed: int) -> Iterator[list[str]]:
    """One row per arm and metric."""
    import headwise as hw

    model, arms, metrics = TASKS[task]
    found = hw.compare(hw.load(model), task, arms, n=n, seed=seed)
    for arm in found.arms:
        for name, value in arm.estimates.items():
            if name not in metrics:
                continue
            cells = [arm.label, name, str(value)]
            gain = arm.differences.get(name)
            if gain is None:
                yield [*cells, "", "", f"{arm.cost.cpu:.2f}"]
            else:
                span = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
                yield [*cells, span, f"{gain.p_holm:.3f}", f"{arm.cost.cpu:.2f}"]
    for label, fixes in found.manifest["fitted"]["fixes"].items():
        for fix in fixes:
            print(f"{label}: {fix}", flush=True)


def main() -> None:
    """Parse the command line, measure, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--n", type=int, default=1000, help="examples per task (perplexity: 346 at most)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    header = ["arm", "metric", "value [95 %]", "difference [95 %]", "p (Holm)", "CPU per token"]
    for task in arguments.tasks:
        n = min(arguments.n, 346) if task == "perplexity" else arguments.n  # of 546; 200 are fitted on
        print(f"\n### {TASKS[task][0]}, {task}\n", flush=True)
        print(markdown_table(header, list(rows(task, n, arguments.seed))), flush=True)
    print(f"\n{versions()}; n = {arguments.n}, seed {arguments.seed}.")


if __name__ == "__main__":
    main()
