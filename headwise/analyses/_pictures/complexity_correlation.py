"""Do heads spread over a picture as there is more in it: entropy over image keys beside visual complexity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from headwise.analyses._entropy import entropy
from headwise.analyses._heads import HEAD
from headwise.analyses._pictures.complexity import edge_share, hue_entropy
from headwise.analyses.inputs import as_examples, as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.correlation import correlations
from headwise.probes.attach.sites import language_tower
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.subject.generation import prepare_run
from headwise.subject.languages import in_languages
from headwise.text import head_name

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject

LEAST = 8
MEASURES: Mapping[str, Callable[[Any], float]] = {"edges": edge_share, "hue": hue_entropy}
_SAID = {"edges": "share of edge pixels", "hue": "entropy of hues"}


def _summary(frame: pd.DataFrame, measure: str, facts: Mapping[str, Any]) -> str:
    sized = frame.assign(size=frame["correlation"].abs())
    best = sized.nlargest(1, "size").to_dict("records")[0]
    several = len(frame[["tower", "kind"]].drop_duplicates()) > 1
    where = f"{best['tower']} {best['kind']} " * several
    mean = "is the same for all" if np.isnan(facts["mean"]) else f"has {facts['mean']:.2f}"
    return (
        f"{facts['examples']} pictures, {_SAID[measure]} {facts['least']:.3g} to {facts['most']:.3g}: of {len(frame)} "
        f"heads {facts['clear']} correlate with it beyond 95 % of its shuffles (by chance {facts['chance']:.1f}, in "
        f"95 % of shuffles {facts['at_most']:.0f} or fewer, p = {facts['p']:.2g}), most "
        f"{where}{head_name(best['layer'], best['head'])}: {best['correlation']:.2f} [{best['low']:.2f}, "
        f"{best['high']:.2f}], rank correlation {best['spearman']:.2f}, p of the largest of all heads "
        f"{best['p_family']:.2g}; the mean entropy of all heads {mean}."
    )


@analysis(
    kind="heads",
    keys=HEAD[1:],
    value="correlation",
    unit="correlation",
    inputs="subject",
    needs=(),
    description="Pearson correlation, over pictures, of a head's normalised entropy over the image keys with the "
    "complexity of the picture ({measure}); 1: the more there is in the picture, the wider the head looks.",
    summary=_summary,
    title="Visual complexity and entropy",
)
def complexity_correlation(
    subject: Subject,
    data: Iterable[Mapping[str, Any]],
    measure: Literal["edges", "hue"] = "edges",
    rows: Literal["last", "image"] = "last",
    trials: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlation of every head's entropy over image keys with the visual complexity of the picture.

    The question of "Focusing by Contrastive Attention" (arXiv 2509.06461), and its measures of pictures. There the
    entropy is that of the mean over heads; single heads, weights scaled up to one over the image keys, the logarithm of
    how many have any, intervals and chance are ours.

    Args:
        subject: a model that sees, with its processor.
        data: keywords of `Subject.prepare`, eight or more, each with one picture as `image`. Give all the same text, or
            the entropy changes with it.
        measure: of the picture: `"edges"`, share of Canny edge pixels (needs scikit-image); `"hue"`, entropy of hues.
        rows: whose entropy: `"last"`, the row of the language tower that predicts the first token of the reply; or
            `"image"`, mean over the rows of image tokens, in all towers.
        trials: shuffles of the complexity over pictures.
        seed: of shuffles and the bootstrap.

    Returns:
        One row per head: `correlation` (Pearson) with its bootstrap interval over pictures (95 %), `low` and `high`;
        `spearman`; `p`, share of shuffles with as large a correlation; `p_family`, with as large a one in any head;
        `entropy`, its mean, and `examples`, how many pictures count. NaN for a head whose entropy never changes, or
        that looks at fewer than eight pictures; no row for one that looks at none. One forward per picture.

    Raises:
        InputError: there are fewer than eight examples, one has no picture or several, all are equally complex, no head
            changes with the picture, or scikit-image is not installed.
        CaptureError: the model has no rows that read image keys.
    """
    from pandas import DataFrame

    subject = as_subject(subject, "complexity_correlation")
    examples = as_examples(data, "complexity_correlation")
    if trials < 1:
        raise InputError("There is one shuffle or more.", evidence=f"trials={trials}")
    score = _complexities(examples, measure)
    table, meta = _entropies(subject, examples, rows)
    values = torch.tensor(table.to_numpy(float))
    found = correlations(values, score, least=LEAST, trials=trials, seed=seed)
    if found.pearson.isnan().all():
        raise InputError(
            "No head's entropy over the image changes with the picture.",
            evidence=f"{len(table)} heads, {len(examples)} pictures",
            remedy="Ask about other layers or rows: rows='image' or 'last'.",
        )
    numbers = {name: getattr(found, name).double() for name in ("spearman", "low", "high", "p", "p_family")}
    frame = DataFrame(
        {"correlation": found.pearson.double(), **numbers}
        | {"entropy": values.nanmean(1), "examples": (~values.isnan()).sum(1)},
        index=table.index,
    ).reset_index()
    clear, chance = found.above_chance()
    mean = correlations(values.nanmean(0)[None], score, least=LEAST, trials=1)
    frame.attrs["facts"] = {
        "examples": len(examples),
        "least": float(score.min()),
        "most": float(score.max()),
        "clear": int(clear.sum()),
        "chance": float(chance.double().mean()),
        "at_most": float(chance.double().quantile(0.95)),
        "p": float(((chance >= clear.sum()).sum() + 1) / (trials + 1)),
        "mean": float(mean.pearson[0]),
    }
    frame.attrs["provenance"] = meta | {"examples": len(examples)}
    return frame


def _entropies(
    subject: Subject, examples: list[dict[str, Any]], rows: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Normalised entropy, a row for every head, a column for every example, NaN where there is none; and provenance."""
    from pandas import concat

    parts, meta = [], {}
    for number, example in enumerate(examples):
        trace = _trace(subject, example, rows)
        found = entropy(trace, rows="all" if rows == "last" else rows, keys="image").frame
        parts.append(found.assign(example=number))
        meta = dict(trace.meta)
    wide = concat(parts).pivot_table(
        index=list(HEAD[1:]), columns="example", values="normalised_entropy", sort=False
    )
    return wide.reindex(columns=range(len(examples))), meta


def _complexities(examples: list[dict[str, Any]], measure: str) -> torch.Tensor:
    """One number per picture."""
    for number, example in enumerate(examples):
        image = example.get("image")
        given = 0 if image is None else len(image) if isinstance(image, list | tuple) else 1
        if given != 1:
            raise InputError(
                "Every example has one picture.",
                evidence=f"example {number} has {given or 'none'}",
                remedy='Give it as {"image": picture, "text": "..."}.',
            )
    if len(examples) < LEAST:
        raise InputError(
            f"A correlation over pictures takes {LEAST} of them or more.",
            evidence=f"got {len(examples)}",
            remedy="Give more examples; fewer than 30 show large correlations alone.",
        )
    images = [image[0] if isinstance(image := one["image"], list | tuple) else image for one in examples]
    score = torch.tensor([MEASURES[measure](image) for image in images], dtype=torch.double)
    if score.max() - score.min() < 1e-9:
        raise InputError(
            "All pictures are equally complex.",
            evidence=f"{_SAID[measure]}: {float(score[0]):.3g} in each of {len(examples)}",
            remedy="Give pictures that differ, or another measure: 'edges' or 'hue'.",
        )
    return score


def _trace(subject: Subject, example: Mapping[str, Any], rows: str) -> Trace:
    own, given = in_languages(subject, example)
    inputs = prepare_run(own, 0, **given).inputs
    keep: dict[str, Any] = {"maps": True}
    if rows == "last":
        keep = {"rows": [-1], "sites": {"tower": language_tower(list(own.layout(inputs).axes))}}
    with capture(own, **keep) as trace:
        run_model(own, inputs)
    return trace
