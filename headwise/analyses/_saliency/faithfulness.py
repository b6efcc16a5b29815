"""Faithfulness: which map does the model follow, attention or saliency?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.analyses._saliency.examples import Asked, explained_examples, provenance
from headwise.analyses._saliency.intervals import interval, mean
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.explained import Target
from headwise.plugins import close_names
from headwise.probes.attach.sites import key_tower
from headwise.saliency.explained import Explained
from headwise.saliency.faithful import agreement, curves, infidelity, least_likely, sensitivity
from headwise.saliency.heads import on, randomised
from headwise.saliency.methods import find_method, saliency_maps

if TYPE_CHECKING:
    import pandas as pd

RANDOM = "random order"
"""The method that knows nothing: positions in random order."""
BETTER = {
    "deletion": "low",
    "insertion": "high",
    "comprehensiveness": "high",
    "sufficiency": "low",
    "infidelity": "low",
    "sensitivity": "low",
    "randomisation": "low",
    "class_sensitivity": "low",
}
"""Score -> what is better."""
CURVES = ("deletion", "insertion", "comprehensiveness", "sufficiency")


def _summary(frame: pd.DataFrame) -> str:
    wide = frame.pivot_table(index="method", columns="score", values="value", sort=False)
    said = []
    for score in CURVES[:2]:
        ranked = wide[score].dropna().sort_values(ascending=BETTER[score] == "low")
        chance = f", random order {ranked[RANDOM]:.2f}" if RANDOM in ranked else ""
        said.append(f"by {score} {ranked.index[0]} is followed most ({ranked.iloc[0]:.2f}{chance})")
    same = wide["randomisation"].dropna() if "randomisation" in wide else wide[CURVES[0]][:0]
    failed = [name for name, value in same.items() if value > 0.5]
    more = f"; blind to the weights: {', '.join(map(str, failed))}" if failed else ""
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}{more}."


@analysis(
    kind="rows",
    keys=("method", "score"),
    value="value",
    unit="score",
    inputs="subject",
    needs=(),
    description="Whether the model follows a map. Deletion and insertion: area under the token's probability, as a "
    "share of the whole input's, while positions go, or come, from the largest down.",
    summary=_summary,
    title="Faithfulness",
)
def faithfulness(
    subject: Any,
    data: Any,
    methods: tuple[str, ...] = ("attention", "attention x gradient", "gradient x input", "ablation"),
    scores: tuple[str, ...] = (*CURVES, "infidelity", "sensitivity", "randomisation", "class_sensitivity"),
    target: Target = "log_probability",
    generate: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Which maps the model follows: attention and saliency on one scale, beside a random order.

    Args:
        subject: the model with its processor.
        data: examples, as for `saliency`.
        methods: any of `headwise.saliency.methods.METHODS`.
        scores: any of `deletion` (area under p / p₀ while the largest positions go; low is better), `insertion` (the
            same while they come; high), `comprehensiveness` and `sufficiency` (probability lost without the largest
            1, 5, 10, 20 and 50 %, or with these alone; ERASER), `infidelity` (squared, captum's), `sensitivity` (the
            largest relative change of the map under small noise), `randomisation` (Spearman of sizes with the map of
            the same model with its weights in random order; above 0.5 the map does not depend on what was learned),
            `class_sensitivity` (the same with the map of the least likely token).
        target: what maps explain. Curves are of the probability, whatever it is.
        generate: the most tokens of a reply that is not given.
        seed: of all that is random.

    Returns:
        One row per method and score, and those of the curves for `random order`: `value`, its bootstrap interval
        `low` to `high` over examples, what is `better`, and `examples`.

    Raises:
        InputError: as `saliency`; an unknown score; infidelity without captum.
    """
    from pandas import DataFrame

    for name in methods:
        find_method(name)
    if unknown := [one for one in scores if one not in BETTER]:
        raise InputError(
            f"There is no score of faithfulness {unknown[0]!r}.",
            evidence=close_names(unknown[0], BETTER),
            remedy=f"Use any of {', '.join(BETTER)}.",
        )
    examples = explained_examples(subject, data, Asked(target, "input", generate), "faithfulness")
    asked = [example for _, example in examples]
    random = randomised(asked[0].question.subject, seed) if "randomisation" in scores else None
    values: dict[tuple[str, str], list[float]] = {}
    for number, example in enumerate(asked):
        for name in (*methods, RANDOM):
            method = partial(_map, name=name, seed=seed + number)
            for score, found in _scores(example, method, scores, random, seed, alone=name == RANDOM).items():
                values.setdefault((name, score), []).append(float(found.double().nanmean()))
    rows = []
    for (name, score), known in values.items():
        low, high = interval(known, seed)
        rows.append((name, score, mean(known), low, high, BETTER[score], len(known)))
    frame = DataFrame(rows, columns=["method", "score", "value", "low", "high", "better", "examples"])
    frame.attrs["provenance"] = provenance(asked[-1], len(asked))
    return frame


def _tower(example: Explained) -> str:
    """The tower whose positions are taken away: the source, or the one that writes."""
    question = example.question
    kind = "cross" if question.subject.config.is_encoder_decoder else "self"
    return key_tower(question.tower, kind, question.layout.axes)


def _map(example: Explained, *, name: str, seed: int) -> Tensor:
    tower = _tower(example)
    if name != RANDOM:
        return saliency_maps(example, name)[tower]
    generator = torch.Generator().manual_seed(seed)
    visible = example.visible(tower)
    return torch.rand(visible.shape, generator=generator).where(visible, torch.nan)


def _scores(
    example: Explained, method: Any, scores: tuple[str, ...], random: Any, seed: int, *, alone: bool
) -> dict[str, Tensor]:
    """Scores of a map, per token; of a random order its curves alone."""
    tower, own = _tower(example), method(example)
    found = curves(example, tower, own) if set(scores) & set(CURVES) else {}
    if not alone:
        if "infidelity" in scores:
            found["infidelity"] = infidelity(example, tower, own, seed)
        if "sensitivity" in scores:
            found["sensitivity"] = sensitivity(example, method, seed)
        if random is not None:
            found["randomisation"] = agreement(own, method(on(random, example)))
        if "class_sensitivity" in scores:
            found["class_sensitivity"] = agreement(own, method(least_likely(example)))
    return {score: value for score, value in found.items() if score in scores}
