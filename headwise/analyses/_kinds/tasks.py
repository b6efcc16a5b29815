"""Scores of heads on prompts that ask for what one type of head does: move a name, count on, find a needle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._kinds.texts import Text, name_texts, needle_texts, require_words, series
from headwise.analyses._kinds.written import written_tokens
from headwise.functional.head_types import rank_of
from headwise.probes.capture import capture
from headwise.probes.run_examples import run_model
from headwise.probes.trace.frames import site_columns
from headwise.probes.unembedding import unembedding

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.subject import Subject

FIRST = 5
"""A name is copied when its logit is among so many, of all words (Wang et al. 2022)."""
Rows = list[dict[str, Any]]


def names(subject: Subject, count: int, seed: int) -> Rows:
    """`name mover` and `negative name mover` of every head, mean over prompts.

    Attention of the last row on the name, where what the head writes of that name (with the sign changed, for the
    negative ones) has the name among the first `FIRST` words.
    """
    texts = name_texts(subject, count, seed)
    known = sorted({text.answer[0] for text in texts})
    ranks = _ranks(subject, known)
    found: Rows = []
    for text in texts:
        place, name = text.places[0], known.index(text.answer[0])
        for site, pattern in _patterns(subject, text).items():
            if site in ranks:
                flat = float(1 / (pattern[:, 0] > 0).any(0).sum())
                for kind, rank in zip(("name mover", "negative name mover"), ranks[site], strict=True):
                    score = pattern[:, 0, place] * (rank[:, name] < FIRST)
                    found += _rows(site, kind, score, flat)
    return found


def order(subject: Subject, count: int, seed: int) -> Rows:
    """`successor` of every head: the share of words that it writes the next one of, of all in their series."""
    reads, found = unembedding(subject), []
    for run in series(subject):
        words = torch.tensor(run, device=subject.device)
        for site, written in written_tokens(subject, run):
            best = reads.logits(written[:, :-1], words).argmax(-1).cpu()
            for step in range(len(run) - 1):
                found += _rows(site, "successor", (best[:, step] == step + 1).double(), 1 / len(run))
    return found


def needle(subject: Subject, count: int, seed: int) -> Rows:
    """`retrieval` of every head: the share of the needle's tokens that the model says while the head looks there."""
    found: Rows = []
    for text in needle_texts(subject, count, seed):
        said: list[bool] = []
        patterns = _patterns(subject, text, said)
        for site, pattern in patterns.items():
            for step, place in enumerate(text.places):
                hit = pattern[:, step].argmax(-1) == place
                flat = float(1 / (pattern[:, step] > 0).any(0).sum())
                found += _rows(site, "retrieval", (hit & said[step]).double(), flat)
    return found


TASKS: Mapping[str, Callable[[Subject, int, int], Rows]] = MappingProxyType(
    {"names": names, "order": order, "needle": needle}
)


def task_scores(subject: Subject, prompts: str, count: int, seed: int) -> pd.DataFrame:
    """A row per prompt, head and type, on prompts of one of `TASKS`.

    Raises:
        InputError: the model reads or continues no text, or its tokenizer has no tokens for these prompts.
    """
    from pandas import DataFrame

    require_words(subject, prompts)
    return DataFrame(TASKS[prompts](subject, count, seed))


def _patterns(
    subject: Subject, text: Text, said: list[bool] | None = None
) -> dict[Site, Float[Tensor, "head token key"]]:
    """The rows that predict the answer, and in `said` whether the model predicts it there."""
    inputs = subject.prepare(text=[[*text.ids, *text.answer[:-1]]])
    rows = list(range(len(text.ids) - 1, len(text.ids) + len(text.answer) - 1))
    with capture(subject, stats=False, rows=rows) as trace:
        output = run_model(subject, inputs)
    if said is not None:
        said += (output.logits[0, rows].argmax(-1).cpu() == torch.tensor(text.answer)).tolist()
    return {site: trace.maps[site][0].detach().cpu().float() for site in trace.maps}


def _ranks(subject: Subject, tokens: list[int]) -> dict[Site, tuple[Tensor, Tensor]]:
    """For every site the rank of each token in what heads write of it, and in the opposite; (head, token)."""
    reads, words, found = unembedding(subject), torch.tensor(tokens, device=subject.device), {}
    for site, written in written_tokens(subject, tokens):
        logits = reads.logits(written)
        opposite = (
            2 * reads.logits(torch.zeros_like(written[0, :1])) - logits
        )  # a norm is odd, but for its bias
        found[site] = rank_of(logits, words).cpu(), rank_of(opposite, words).cpu()
    return found


def _rows(site: Site, kind: str, scores: Tensor, baseline: float) -> Rows:
    place = site_columns(site)
    return [
        {**place, "head": head, "type": kind, "score": score, "baseline": baseline}
        for head, score in enumerate(scores.tolist())
    ]
