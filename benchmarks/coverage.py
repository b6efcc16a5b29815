"""Do the intervals hold what they say? Simulated examples, whose truth is known, and headwise's own statistics.

    python benchmarks/coverage.py                     # an hour on one core
    python benchmarks/coverage.py --sets 100 --sizes 20 200

Prints three tables. Coverage: the share of data sets whose 95 % interval holds the truth, for every kind of number
that tasks have; beside it the share of intervals that say themselves that they are too narrow or rough. Then the same
of differences, where the fix redraws the replies about 15 % of the examples (or pictures) and helps nothing. False
findings: the share of such comparisons with p below 0.05. Six examples about one picture are alike with the
correlation that the name of the setting says. The last line counts the cells outside of the bar of 0.92 to 0.985 where
less than half of the intervals say so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from common import markdown_table

from headwise.evaluation.statistics.estimate import caution, estimate
from headwise.evaluation.statistics.paired import permutation_p
from headwise.evaluation.statistics.paired_intervals import difference_interval
from headwise.evaluation.task import Metric, mean, ratio
from headwise.evaluation.task_run import versions_of

SIZES = (20, 50, 200, 1000)
PER_GROUP = 6
SHUFFLES = 499
ALPHA = 0.05
BAR = (0.92, 0.985)

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Generator and number of examples -> (column, example)."""


@dataclass(frozen=True)
class Setting:
    """A kind of number with a known truth."""

    name: str
    metric: Metric
    truth: float
    draw: Draw
    grouped: bool = False
    redrawn: float = 0.15
    """Share of examples, or groups, whose replies a fix that helps nothing draws again."""


def alike(rng: np.random.Generator, n: int, share: float, correlation: float) -> np.ndarray:
    """(example,) the probabilities of examples in pictures of six, beta-distributed over pictures."""
    weight = (1 - correlation) / correlation
    pictures = rng.beta(weight * share, weight * (1 - share), -(-n // PER_GROUP))
    return np.repeat(pictures, PER_GROUP)[:n]


def named(name: str, correlation: float) -> str:
    """The name of a setting with its groups."""
    return f"{name}, pictures of {PER_GROUP}, correlation {correlation}" if correlation else name


def share(rate: float, correlation: float = 0.0) -> Setting:
    """Right or wrong answers."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        chance = alike(rng, n, rate, correlation) if correlation else rate
        return (rng.random((1, n)) < chance).astype(float)

    return Setting(named(f"share {rate}", correlation), mean("x"), rate, draw, correlation > 0)


def invented(rate: float, correlation: float = 0.0) -> Setting:
    """Invented objects in captions of one and more, unlike from caption to caption."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        said = 1 + rng.poisson(3, n)
        chance = alike(rng, n, rate, correlation) if correlation else rng.beta(rate * 3, (1 - rate) * 3, n)
        return np.stack([rng.binomial(said, chance), said]).astype(float)

    return Setting(named(f"rate of counts {rate}", correlation), ratio("h", "m"), rate, draw, correlation > 0)


def errors(rate: float) -> Setting:
    """Errors in transcripts of 3 to 24 words, many of them in few clips."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        words = rng.integers(3, 25, n)
        return np.stack([rng.poisson(words * rng.gamma(0.4, rate / 0.4, n)), words]).astype(float)

    return Setting(f"word error rate {rate}", ratio("e", "w", unit="errors per word"), rate, draw)


def average(name: str, truth: float, draw: Callable[..., np.ndarray]) -> Setting:
    """A mean of numbers that are drawn one by one."""
    return Setting(name, mean("x", unit="points"), truth, lambda rng, n: draw(rng, size=(1, n)))


SETTINGS = (
    *(share(rate) for rate in (0.02, 0.1, 0.5, 0.95)),
    *(invented(rate) for rate in (0.02, 0.05, 0.1, 0.3)),
    *(errors(rate) for rate in (0.02, 0.05, 0.2)),
    average("mean, normal", 0.0, lambda rng, size: rng.normal(size=size)),
    average("mean, uniform", 0.5, lambda rng, size: rng.random(size)),
    average("mean, lognormal 1.5", float(np.exp(1.125)), lambda rng, size: rng.lognormal(0, 1.5, size)),
    *(share(0.85, correlation) for correlation in (0.1, 0.3)),
    *(invented(0.1, correlation) for correlation in (0.1, 0.3)),
)
REDRAWN = tuple(
    replace(item, name=f"{item.name}, all redrawn", redrawn=1.0) for item in SETTINGS if item.grouped
)
"""Few groups are the hardest where all of them change."""


def labels(setting: Setting, n: int) -> list[str] | None:
    """The picture of every example."""
    return [str(place // PER_GROUP) for place in range(n)] if setting.grouped else None


def coverage(setting: Setting, n: int, sets: int) -> tuple[float, float]:
    """Shares of the data sets whose interval holds the truth, and whose interval is doubted."""
    held = doubted = 0
    for seed in range(sets):
        columns = setting.draw(np.random.default_rng([seed, n]), n)
        table = dict(zip(setting.metric.columns, columns.tolist(), strict=True))
        found = estimate(setting.metric, table, seed=seed, groups=labels(setting, n))
        held += found.low <= setting.truth <= found.high
        doubted += bool(caution(found.method))
    return held / sets, doubted / sets


def pairs(setting: Setting, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Replies before and after a fix that helps nothing, and their groups."""
    groups = np.arange(n) // PER_GROUP if setting.grouped else None
    rng = np.random.default_rng([seed, n])
    before, other = setting.draw(rng, n), setting.draw(rng, n)
    unit = np.arange(n) if groups is None else groups
    redrawn = (rng.random(unit.max() + 1) < setting.redrawn)[unit]
    return before, np.where(redrawn, other, before), groups


def difference_coverage(setting: Setting, n: int, sets: int) -> tuple[float, float]:
    """Shares of the differences whose interval holds 0, and whose interval is doubted."""
    held = doubted = 0
    for seed in range(sets):
        before, after, groups = pairs(setting, n, seed)
        found = difference_interval(setting.metric, before, after, seed=seed, groups=groups)
        held += found.low <= 0 <= found.high
        doubted += bool(caution(found.method))
    return held / sets, doubted / sets


def false_findings(setting: Setting, n: int, sets: int) -> float:
    """Share of comparisons with p below 0.05 where nothing is better."""
    found = 0
    for seed in range(sets):
        before, after, groups = pairs(setting, n, seed)
        p, _ = permutation_p(
            setting.metric.statistic, before, after, seed=seed, shuffles=SHUFFLES, groups=groups
        )
        found += p < ALPHA
    return found / sets


@dataclass
class Bar:
    """Cells that are held to the bar, and those outside of it without a word."""

    sets: int
    cells: int = 0
    outside: list[tuple[str, float]] = field(default_factory=list)

    def cell(self, case: str, held: float, doubted: float) -> str:
        """The text of a cell, which is counted."""
        self.cells += 1
        if not BAR[0] <= held <= BAR[1] and doubted < 0.5:
            self.outside.append((f"{case}: {held:.3f}", max(BAR[0] - held, held - BAR[1])))
        return f"{held:.3f}" + (f" ({doubted:.0%})" if doubted else "")

    def __str__(self) -> str:
        far = sum(
            beyond > 1.96 * np.sqrt(end * (1 - end) / self.sets)
            for case, beyond in self.outside
            for end in (BAR[float(case.rpartition(" ")[2]) > BAR[1]],)
        )
        names = "".join(f"\n  {case}" for case, _ in self.outside)
        return (
            f"{len(self.outside)} of {self.cells} cells lie outside of {BAR[0]} to {BAR[1]} without a word, {far} of "
            f"them by more than chance{names}"
        )


def rows(
    settings: tuple[Setting, ...], sizes: list[int], measure: Callable[[Setting, int], str]
) -> Iterator[list[str]]:
    """A row per setting, a column per size."""
    for setting in settings:
        yield [setting.name, *(measure(setting, n) for n in sizes)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=1000, help="data sets per number")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="examples")
    arguments = parser.parse_args()
    sets, bar = arguments.sets, Bar(arguments.sets)
    header = ["number", *(f"n = {n}" for n in arguments.sizes)]
    error = 1.96 * np.sqrt(0.95 * 0.05 / sets)
    used = ", ".join(
        f"{name} {number}" for name, number in versions_of(("headwise", "numpy", "scipy")).items()
    )
    print(f"{sets} data sets per number: 0.95 is met to ±{error:.3f} by chance. {used}\n")
    tables: dict[str, tuple[tuple[Setting, ...], Callable[[Setting, int], str]]] = {
        "Coverage of 95 % intervals (in brackets: how many say that they are too narrow or rough)": (
            SETTINGS,
            lambda item, n: bar.cell(f"{item.name}, n = {n}", *coverage(item, n, sets)),
        ),
        "Coverage of the intervals of differences": (
            (*SETTINGS, *REDRAWN),
            lambda item, n: bar.cell(
                f"difference, {item.name}, n = {n}", *difference_coverage(item, n, sets)
            ),
        ),
        "False findings at p < 0.05": (
            (*SETTINGS, *REDRAWN),
            lambda item, n: f"{false_findings(item, n, sets):.3f}",
        ),
    }
    for title, (settings, measure) in tables.items():
        print(f"{title}\n")
        print(markdown_table(header, list(rows(settings, arguments.sizes, measure))) + "\n", flush=True)
    print(bar)


if __name__ == "__main__":
    main()
