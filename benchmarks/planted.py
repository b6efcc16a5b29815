"""Which planted faults does each fix repair? The zoo's trained models, damaged where it is known how.

    python benchmarks/planted.py                                          # half an hour on one core
    python benchmarks/planted.py --faults text-sink --fixes ACT --n 200

For every fault and fix: the score of the healthy, the faulty and the fixed model on the same examples of the test
split, and the recovered share, (fixed - faulty) / (clean - faulty): 0 is no better than faulty, 1 as good as healthy.
Its interval is the 95 % percentile bootstrap over examples, whose replies by the three models stay together, as do
questions about one picture; there is no share where the damage is below four standard errors. What a fix has to be
told (heads, dimensions, strength) is chosen on the validation split; what it cannot find and is told by the planter is
printed. Random controls are as many heads or tokens as the fix's, averaged over several sets, whose range is printed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import markdown_table, versions

import headwise as hw
from headwise.evaluation.comparison._fit import fit_constants
from headwise.evaluation.comparison.calibration import TaskCalibration, calibration
from headwise.evaluation.statistics.estimate import group_numbers
from headwise.evaluation.statistics.intervals import resampled
from headwise.evaluation.statistics.paired import difference
from headwise.evaluation.task_run import TaskRun
from headwise.fixes import ACT, VAR, VHR, ScaleHeads
from headwise.functional.redistribution import redistribute, sink_score
from headwise.subject.info import model_info
from headwise.text import head_name
from headwise.zoo_checks import faults

if TYPE_CHECKING:
    import pandas as pd

    from headwise.evaluation.task import Metric
    from headwise.fixes.arguments import Heads
    from headwise.subject import Subject
    from headwise.zoo_checks.faults import Fault

SETS = 10
"""Sets of random heads or tokens that a control is averaged over; all there are where they are no more."""
ERRORS = 4
"""Standard errors that damage must have for a share of it to mean anything."""


@dataclass(frozen=True, kw_only=True)
class RandomTokens:
    """What VAR does, with as many image tokens called sinks as it finds, but random ones."""

    p: float
    rho: float
    sink_dims: tuple[int, ...]
    layers: tuple[int, ...]
    tau: float
    seed: int
    needs_residual = True

    def edit(self, pattern: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        """Attention moved from random image tokens to the others."""
        batch, memory, name = len(pattern), context.memory, ("sinks", site.layer)
        image = context.have_role("image", batch).to(pattern.device)
        if name not in memory:
            memory[name] = self._moved(sink_score(context.residual, self.sink_dims), image)
        sinks = pad(memory.of(name, batch), pattern.shape[-1])
        places = context.positions
        rows = ~pad(image, int(places.max()) + 1)[:, places]
        return redistribute(
            pattern,
            image=pad(image, pattern.shape[-1]),
            sinks=sinks,
            p=self.p,
            rho=self.rho,
            rows=rows & (places > int(image.nonzero()[:, 1].min())),
        )

    def _moved(self, score: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        sinks = score >= self.tau
        draw = torch.Generator().manual_seed(self.seed)
        moved = sinks.clone()
        for row, there in enumerate(image):
            places = there.nonzero()[:, 0]
            moved[row, places] = sinks[row, places[torch.randperm(len(places), generator=draw)]]
        return moved


def pad(known: torch.Tensor, keys: int) -> torch.Tensor:
    """The first `keys` columns, those that are missing False."""
    return torch.nn.functional.pad(known, (0, max(0, keys - known.shape[1])))[:, :keys]


@dataclass(frozen=True)
class Arm:
    """Something to install on the faulty model; several are averaged."""

    name: str
    fixes: Sequence[Any]
    says: str


Maker = Callable[["Fault", "Subject", TaskCalibration, int], Iterator[Arm]]


def best_of(fixes: Sequence[Any], subject: Subject, data: TaskCalibration) -> Any:
    """The fix with the largest mean score on validation examples, the first of equals."""

    def score(fix: Any) -> float:
        with hw.patch(subject, fix):
            return float(np.nanmean(data.scores(subject)))

    return max(fixes, key=score)


def var(fault: Fault, subject: Subject, data: TaskCalibration, seed: int) -> Iterator[Arm]:
    """VAR as in the paper, for any share of sinks, with p and rho chosen, and the latter at random tokens."""
    known = fault.known.get("VAR", {})
    told = f"told {_listed(known)}" if known else ""
    plain = replace(VAR(), **known) if known else fit_constants(VAR(), subject, data)
    yield Arm("VAR", [plain], told or plain.source)
    if not known:
        return
    yield Arm("VAR, rho=0", [replace(plain, rho=0.0)], told)
    chosen = best_of(
        [replace(plain, p=p, rho=rho) for p in (0.6, 1.0) for rho in (0.8, 0.5, 0.0)], subject, data
    )
    says = f"p={chosen.p:g}, rho={chosen.rho:g}"
    yield Arm("VAR, chosen", [chosen], f"{told}; validation: {says}")
    bound = chosen.bind(model_info(subject.model))
    own = {name: getattr(bound, name) for name in ("p", "rho", "sink_dims", "layers", "tau")}
    yield Arm("control: VAR, random tokens", [RandomTokens(**own, seed=seed + k) for k in range(SETS)], says)


def act(fault: Fault, subject: Subject, data: TaskCalibration, seed: int) -> Iterator[Arm]:
    """ACT with fitted heads, and with as many others."""
    found = fit_constants(ACT(), subject, data)
    heads = tuple(found.heads or ())
    yield Arm("ACT", [found], f"heads {_heads(heads)}; {found.source}")
    if not heads:
        return
    info = model_info(subject.model).require_sizes()
    sets = other_heads(heads, layers=info.layers, per_layer=info.heads, seed=seed)
    layers = sorted({layer for chosen in sets for layer, _ in chosen})
    says = f"{len(heads)} others of layers {', '.join(map(str, layers))}"
    yield Arm("control: ACT, random heads", [replace(found, heads=chosen) for chosen in sets], says)


def other_heads(heads: Heads, *, layers: int, per_layer: int, seed: int) -> list[Heads]:
    """Sets of as many other heads: of the same layers, and of the nearest ones until there are twice as many to draw
    from; all sets where they are at most `SETS`, else as many by lot.

    Example:
        >>> len(other_heads(((2, 2),), layers=4, per_layer=8, seed=0))
        7
    """
    pool: list[tuple[int, int]] = []
    own = {layer for layer, _ in heads}
    for layer in sorted(range(layers), key=lambda layer: min(abs(layer - at) for at in own)):
        if layer not in own and len(pool) >= 2 * len(heads):
            break
        pool += [(layer, head) for head in range(per_layer) if (layer, head) not in heads]
    if comb(len(pool), len(heads)) <= SETS:
        return list(combinations(sorted(pool), len(heads)))
    rng, sets = random.Random(seed), dict[Any, None]()
    while len(sets) < SETS:
        sets[tuple(sorted(rng.sample(pool, len(heads))))] = None
    return list(sets)


def vhr(fault: Fault, subject: Subject, data: TaskCalibration, seed: int) -> Iterator[Arm]:
    """VHR as in the paper, VHR with layers and the rule of outliers chosen, and the latter with random heads."""
    yield Arm("VHR", [VHR()], "")
    tried = [
        VHR(layers=layers, outliers=out) for out in (True, False) for layers in (None, (0,), (1,), (2,), (3,))
    ]
    chosen = best_of(tried, subject, data)
    says = f"layers={chosen.layers or 'default'}, outliers={chosen.outliers}"
    yield Arm("VHR, chosen", [chosen], f"validation: {says}")
    rest = [replace(chosen, choose="random", seed=seed + k) for k in range(SETS)]
    yield Arm("control: VHR, random heads", rest, says)
    spared = [fix for fix in fault.wrong if isinstance(fix, ScaleHeads) and fix.factor > 1]
    if spared:
        other = [replace(fix, factor=chosen.alpha) for fix in spared]
        yield Arm("control: other heads doubled", other, _heads(spared[0].heads))


FIXES: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "VAR": (var, ("zoo:vlm",)),
    "ACT": (act, ("zoo:vlm", "zoo:lm")),
    "VHR": (vhr, ("zoo:vlm",)),
}
"""Name -> how its arms are made, and the models that it can be used on."""


def answers(task_run: TaskRun, fixes: Sequence[Any] = ()) -> pd.DataFrame:
    """Columns of the task's first metric, one row per example, of the model with all of these fixes."""
    with hw.patch(task_run.subject, fixes) if fixes else nullcontext():
        return task_run.run().frame[list(task_run.task.metrics[0].columns)].astype(float)


def recovered(
    metric: Metric, tables: Sequence[pd.DataFrame], *, seed: int, groups: Sequence[str] | None
) -> str:
    """Recovered share of the damage, with its 95 % interval, from tables of the clean, faulty and fixed model."""
    columns = [frame[name].to_numpy() for frame in tables for name in metric.columns]
    count = len(metric.columns)

    def values(columns: Sequence[np.ndarray], axis: int) -> list[np.ndarray]:
        parts = [columns[place : place + count] for place in range(0, len(columns), count)]
        return [metric.statistic(*part, axis=axis) for part in parts]

    def damage(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        good, bad, _ = values(columns, axis)
        return good - bad

    def share(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        good, bad, now = values(columns, axis)
        return np.where(good != bad, (now - bad) / np.where(good != bad, good - bad, 1), np.nan)

    numbers = group_numbers(groups, np.ones(len(columns[0]), dtype=bool))
    error = resampled(columns, damage, seed=seed, groups=numbers).std()
    if abs(damage(*columns)) < ERRORS * error:
        return "damage too small"
    low, high = np.quantile(resampled(columns, share, seed=seed, groups=numbers), [0.025, 0.975])
    return f"{float(share(*columns)):.2f} [{low:.2f}, {high:.2f}]"


def rows(name: str, arguments: argparse.Namespace) -> Iterator[list[str]]:
    """The table of one fault."""
    fault = faults.get(name)
    healthy = hw.load(fault.model)
    task, metric = fault.question(), fault.question().metrics[0]
    score = f"{task.title} {metric.name}"
    clean = TaskRun.create(healthy, task).draw(arguments.n, arguments.seed)
    faulty = TaskRun.create(fault.plant(healthy), task).with_examples(clean.examples)
    data = calibration(faulty, arguments.validation, arguments.seed)
    good, bad = answers(clean), answers(faulty)
    groups = clean.groups.column

    def value(frame: pd.DataFrame) -> float:
        return metric.compute({column: frame[column].to_list() for column in metric.columns})

    def row(arm: Arm) -> list[str]:
        each = [answers(faulty, fix if isinstance(fix, tuple) else (fix,)) for fix in arm.fixes]
        fixed = sum(each[1:], each[0]) / len(each)
        share = recovered(metric, (good, bad, fixed), seed=arguments.seed, groups=groups)
        tried = sorted(map(value, each))
        span = f"{len(each)} sets, fixed {tried[0]:.3f} to {tried[-1]:.3f}" if len(each) > 1 else ""
        numbers = [f"{value(frame):.3f}" for frame in (good, bad, fixed)]
        return [name, score, arm.name, *numbers, share, "; ".join(filter(None, (arm.says, span)))]

    yield row(Arm("oracle", [fault.oracle], "what the planter knows"))
    yield row(Arm("wrong repair", [fault.wrong], ""))
    control = answers(clean, fault.control)
    before, after = (
        {column: frame[column].to_list() for column in metric.columns} for frame in (good, control)
    )
    change = difference(metric, before, after, seed=arguments.seed, groups=groups)
    cost = f"{fault.control_says} {change}"
    numbers = [f"{value(good):.3f}", "", f"{value(control):.3f}"]
    yield [name, score, "control on the healthy model", *numbers, "", cost]
    for fix in arguments.fixes:
        make, models = FIXES[fix]
        if fault.model in models:
            for arm in make(fault, faulty.subject, data, arguments.seed):
                yield row(arm)


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000, help="examples of the test split")
    parser.add_argument("--validation", type=int, default=300, help="examples of the validation split")
    parser.add_argument("--seed", type=int, default=0, help="chooses examples, resamples and random controls")
    parser.add_argument("--faults", nargs="+", choices=faults.names(), default=list(faults.names()))
    parser.add_argument("--fixes", nargs="*", choices=FIXES, default=list(FIXES))
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    header = ["fault", "score", "fix", "clean", "faulty", "fixed", "recovered share", "how"]
    table = []
    for name in arguments.faults:
        for row in rows(name, arguments):
            table.append(row)
            print(" | ".join(row), file=sys.stderr, flush=True)
    print(markdown_table(header, table))
    print(f"\n{versions()}; n = {arguments.n}, validation n = {arguments.validation}, seed {arguments.seed}.")


def _heads(heads: Sequence[tuple[int, int]]) -> str:
    return " ".join(head_name(layer, head) for layer, head in heads) or "none"


def _listed(known: Any) -> str:
    return ", ".join(f"{name}={tuple(value)}" for name, value in known.items())


if __name__ == "__main__":
    main()
