"""Heads chosen one by one: every head alone, judged on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from headwise.errors import FixError
from headwise.fixes.patching import patch
from headwise.subject.calibration import Calibration, as_calibration
from headwise.subject.info import model_info

if TYPE_CHECKING:
    from headwise.subject import Subject

RESAMPLES = 2000
Rule = Literal["improves", "significant"]


def search_heads(
    subject: Subject,
    data: Calibration,
    fix_of: Callable[[int, int], Any],
    *,
    layers: Sequence[int] | None = None,
    rule: Rule = "improves",
) -> tuple[tuple[tuple[int, int], ...], str]:
    """Heads whose own fix raises the mean score, and how they were found.

    One pass over the data for every head of the layers, and one without a fix.

    Args:
        subject: the model; it is patched head by head and left as it was.
        data: what scores are taken on.
        fix_of: the fix of one (layer, head).
        layers: 2 to the last but one when None.
        rule: "improves" takes any gain, "significant" one whose one-sided paired bootstrap p is below 0.05.

    Raises:
        FixError: there is no such layer.
        InputError: the data have no answers.
    """
    data = as_calibration(data)
    info = model_info(subject.model).require_sizes()
    layers = tuple(range(2, info.layers - 1)) if layers is None else layers
    missing = [layer for layer in layers if layer >= info.layers]
    if missing or not layers:
        raise FixError(
            "There is no layer to look for heads in." if not layers else f"There is no layer {missing[0]}.",
            evidence=f"the model has {info.layers} layers",
            remedy="Name layers=.",
        )
    plain = np.asarray(data.scores(subject), dtype=float)
    kept = []
    for layer in layers:
        for head in range(info.heads):
            with patch(subject, fix_of(layer, head), check=False):
                found = np.asarray(data.scores(subject), dtype=float)
            if better(found - plain, rule) and not _loses_scores(plain, found):
                kept.append((layer, head))
    tried = len(layers) * info.heads
    return tuple(kept), f"fit: {len(kept)} of {tried} heads improve {data.name}"


def _loses_scores(plain: np.ndarray, found: np.ndarray) -> bool:
    """True where clearly more examples lost their score than found one: what says nothing is not better."""
    from scipy.stats import binomtest

    lost = int((np.isnan(found) & ~np.isnan(plain)).sum())
    won = int((np.isnan(plain) & ~np.isnan(found)).sum())
    return lost > won and binomtest(lost, lost + won).pvalue < 0.05


def better(gain: np.ndarray, rule: Rule) -> bool:
    """True when gains, one per example, are an improvement by a rule of `search_heads`."""
    gain = gain[~np.isnan(gain)]  # examples that have no score of their own
    if len(gain) == 0 or gain.mean() <= 0:
        return False
    if rule == "improves":
        return True
    if len(gain) == 1:
        return True  # resampling a single example gives it again
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (gain,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return bool(np.mean(drawn.bootstrap_distribution <= 0) < 0.05)
