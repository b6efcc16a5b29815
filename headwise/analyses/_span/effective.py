"""How far a head needs to look for the loss to stay what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from headwise.analyses._heads import HEAD, by_tower, extremes, heads_frame
from headwise.analyses._kinds.ablation import Question, questions
from headwise.analyses.inputs import as_examples, as_subject
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.functional.influence import band_span, masking_influence
from headwise.probes.capture import capture
from headwise.saliency.explained import Entry
from headwise.subject.info import identity_of

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from headwise.probes.trace.trace import Trace
    from headwise.subject import Subject


def _summary(frame: pd.DataFrame) -> str:
    return by_tower(frame, _sentence)


def _sentence(frame: pd.DataFrame) -> str:
    low, high = extremes(frame, "span")
    return (
        f"heads need the last {frame['span'].mean():.1f} of {frame['length'].mean():.1f} keys on average, "
        f"from {low[1]:.1f} in {low[0]} to {high[1]:.1f} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="span",
    unit="positions",
    description="Width of the narrowest band of keys before each row that holds, with the first {first}, {share:g} of "
    "what hiding single keys would do to the loss. 0: the first keys are enough.",
    summary=_summary,
    inputs="subject",
    title="Effective span",
)
def effective_span(
    subject: Subject | PreTrainedModel,
    data: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]],
    share: float = 0.95,
    first: int = 1,
) -> pd.DataFrame:
    """Effective span of every head of a decoder: how far back it needs to look, by the gradient of the loss.

    The influence of "MoA: Mixture of Sparse Attention" (arXiv 2406.14909): the change of the loss, to first order, when
    one key is hidden from one row. The paper plans with blocks of 64 keys and exempts the first block; the narrowest
    band, to the key, is ours.

    Args:
        subject: a decoder or an encoder-decoder.
        data: texts, or keywords of `Subject.prepare`.
        share: of all influence that the band and the first keys hold.
        first: keys that every row sees besides the band; sinks stand there.

    Returns:
        One row per example and head of self-attention: `span` in keys, `relative`, its share of the `length` of the
        example, `influence`, the sum of |change of the loss| over rows and keys, and `on_first`, the share of it on the
        first keys. A forward and a backward per example; patterns of all layers are kept at once.

    Raises:
        InputError: `share` is no share, `first` below 0, or an example has no word to predict.
    """
    from pandas import concat

    if not 0.0 < share < 1.0:
        raise InputError(
            f"share of effective_span lies between 0 and 1, got {share}.", remedy="The usual value is 0.95."
        )
    if first < 0:
        raise InputError(f"first of effective_span is 0 or more, got {first}.")
    subject = as_subject(subject, "effective_span")
    asked = questions(subject, as_examples(data, "effective_span"), "effective_span")
    parts, trace = [], None
    for number, question in enumerate(asked):
        trace, found = _of_example(subject, question, share, first)
        parts += [part.assign(example=number) for part in found]
    frame = concat(parts, ignore_index=True)
    own = {**identity_of(subject), "examples": len(asked)}  # without what opens a frozen graph
    frame.attrs["provenance"] = dict(trace.meta) | own if trace else {}
    return frame


def _of_example(
    subject: Subject, question: Question, share: float, first: int
) -> tuple[Trace, list[pd.DataFrame]]:
    tower = "decoder" if subject.config.is_encoder_decoder else "text"
    kept = {"tower": tower, "kind": "self"}
    with (
        torch.enable_grad(),
        patch(subject, Entry(tower=tower)),  # a frozen model has no graph of its own
        capture(subject, stats=False, maps=True, gradients=True, sites=kept) as trace,
    ):
        loss = question.loss(subject).sum()
    sites = list(trace.maps)
    slopes = torch.autograd.grad(loss, [trace.maps[site] for site in sites])
    parts = []
    for site, slope in zip(sites, slopes, strict=True):
        pattern = trace.maps[site].detach()
        influence = masking_influence(pattern.float(), slope.float())
        rows = trace.positions[site].to(pattern.device)
        apart = rows[:, None] - torch.arange(pattern.shape[-1], device=pattern.device)
        span = band_span(influence, apart, share=share, first=first).cpu()
        size = influence.abs().sum(-2).cpu()
        columns = {
            "span": span.double(),
            "relative": span / pattern.shape[-1],
            "length": torch.full_like(span, pattern.shape[-1]),
            "influence": size.sum(-1),
            "on_first": size[..., :first].sum(-1) / size.sum(-1),
        }
        parts.append(heads_frame(site, trace.records[site], "maps", columns))
    return trace, parts
