"""Saliency of every position that a model reads, for every token that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.analyses._saliency.examples import Asked, explained_examples, map_table, provenance
from headwise.analyses.record import analysis
from headwise.functional.explained import Target
from headwise.saliency.explained import At
from headwise.saliency.methods import find_method, saliency_maps
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

MAP = ("example", "tower", "position", "source")
"""The columns that name a cell of a map."""


def _summary(frame: pd.DataFrame, method: str) -> str:
    sums = frame.assign(size=frame["saliency"].abs()).groupby("role")["size"].sum()
    top = frame.iloc[int(frame["saliency"].abs().to_numpy().argmax())]
    total = max(float(sums.sum()), 1e-30)
    shares = ", ".join(f"{role} {share / total:.0%}" for role, share in sums.nlargest(3).items())
    return (
        f"By {method}, tokens of the reply rest on {shares}; the largest saliency is {top['saliency']:.3g}, of "
        f"{quoted_token(top['source_token'])} at {top['tower']} {top['source']} for {quoted_token(top['token'])}."
    )


@analysis(
    kind="matrix",
    axes=("position", "source"),
    keys=MAP,
    value="saliency",
    unit="score",
    inputs="subject",
    needs=(),
    description="Saliency ({method} of {target}) of the position `source` for the token written at `position`, which "
    "the row before it predicts. Signed methods: above 0 speaks for the token.",
    summary=_summary,
    title="Saliency",
)
def saliency(
    subject: Any,
    data: Any,
    method: str = "attention x gradient",
    target: Target = "log_probability",
    at: At = "input",
    generate: int = 16,
) -> pd.DataFrame:
    """How much every position that the model reads counts for every token that it writes.

    Row semantics: `position` is where the written token stands, and the map is of the row that predicts it.

    Args:
        subject: the model with its processor: a decoder, an encoder-decoder, or one that sees or hears.
        data: examples: keywords of `Subject.prepare`, and where wanted `reply` (text or token ids; `target` of an
            encoder-decoder) and `id`.
        method: one of `headwise.saliency.methods.METHODS`.
        target: the number that explains a token: its `"log_probability"`, its `"logit"`, or `"kl"`, the divergence
            from the unchanged model, for methods that take positions away.
        at: `"input"`, what enters the first layer of each tower, or `"encoder_output"`, what the cross-attention reads.
            Attention reads the latter in either case.
        generate: the most tokens of a reply that is not given.

    Returns:
        One row per example, token of the reply and position that it can rest on: `id`, the written `token` at
        `position`, the `source_token`, `role` and `modality` at `source` of a tower, and `saliency`.

    Raises:
        InputError: no such method, an example without a reply, or a method that the model or target cannot carry.

    Example:
        >>> import headwise as hw
        >>> scene = hw.zoo.sample("vlm").inputs
        >>> found = hw.analyses.saliency(hw.load("zoo:vlm"), [scene], method="norm gradient", generate=1)
        >>> found.frame["modality"].value_counts().to_dict()
        {'image': 36, 'text': 9}
    """
    from pandas import concat

    find_method(method)
    parts = []
    for number, (name, example) in enumerate(
        explained_examples(subject, data, Asked(target, at, generate), "saliency")
    ):
        for tower, values in saliency_maps(example, method).items():
            part = map_table(example, tower, values)
            part.insert(0, "id", name)
            part.insert(0, "example", number)
            parts.append(part)
    frame = concat(parts, ignore_index=True)
    frame.attrs["provenance"] = provenance(example, number + 1)
    return frame
