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

FLIPS = 9999
"""Random exchanges of the signs of gains."""
ALPHA = 0.05
"""How often a search whose heads all do nothing may keep one."""
_NEAR = 1e-9
"""Sums in another order differ in their last digits."""
Rule = Literal["significant", "improves"]


def search_heads(
    subject: Subject,
    data: Calibration,
    fix_of: Callable[[int, int], Any],
    *,
    layers: Sequence[int] | None = None,
    rule: Rule = "significant",
) -> tuple[tuple[tuple[int, int], ...], str]:
    """Heads whose own fix raises the mean score, and how they were found.

    One pass over the data for every head of the layers, and one without a fix.

    Args:
        subject: the model; it is patched head by head and left as it was.
        data: what scores are taken on; `groups`, where it has them, name what its examples are about.
        fix_of: the fix of one (layer, head).
        layers: 2 to the last but one when None.
        rule: "significant" takes gains that chance gives in none of the heads but once in twenty searches, see
            `better`; "improves" takes any gain, and about every second head that changes something has one by chance.

    Returns:
        The heads, and a sentence with how many of how many they are, and how many chance would keep.

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
    heads = [(layer, head) for layer in layers for head in range(info.heads)]
    found = np.empty((len(heads), len(plain)))
    for row, (layer, head) in enumerate(heads):
        with patch(subject, fix_of(layer, head), check=False):
            found[row] = data.scores(subject)
    gains = _of_groups(found - plain, getattr(data, "groups", None))
    silenced = np.array([_loses_scores(plain, scores) for scores in found])
    kept = [head for head, keep in zip(heads, better(gains, rule) & ~silenced, strict=True) if keep]
    verb = "improve" if rule == "significant" else "raise the mean of"
    said = (
        f"{len(kept)} of {len(heads)} heads (by chance {kept_by_chance(gains, rule):.2g}) {verb} {data.name}"
    )
    return tuple(kept), f"fit: {said}"


def _loses_scores(plain: np.ndarray, found: np.ndarray) -> bool:
    """True where clearly more examples lost their score than found one: what says nothing is not better."""
    from scipy.stats import binomtest

    lost = int((np.isnan(found) & ~np.isnan(plain)).sum())
    won = int((np.isnan(plain) & ~np.isnan(found)).sum())
    return lost > won and binomtest(lost, lost + won).pvalue < ALPHA


def better(gains: np.ndarray, rule: Rule) -> np.ndarray:
    """Which heads improve, by a rule of `search_heads`.

    "significant" corrects for all heads that are tried (Westfall and Young 1993, single-step maximum): if a head did
    nothing, the gains of an example could as well be losses. The signs of all gains of an example are exchanged by
    lot together, and a head counts whose sum, over the root of its sum of squares, is reached by the largest of all
    heads in less than 5 % of the exchanges.

    Args:
        gains: (head, example), or of one head (example,); NaN where an example has no score of its own.
        rule: "significant" or "improves".

    Returns:
        (head,) bool.

    Example:
        >>> better(np.array([[1.0] * 9 + [0.0] * 11, [1.0, 1.0, -1.0] + [0.0] * 17]), "significant").tolist()
        [True, False]
    """
    seen, drawn = _exchanged(gains)
    if rule == "improves":
        return seen.reshape(gains.shape[:-1]) > 0
    reached = (drawn.max(0) >= seen[:, None]).sum(1)
    return ((1 + reached) / (1 + FLIPS) < ALPHA).reshape(gains.shape[:-1])


def kept_by_chance(gains: np.ndarray, rule: Rule) -> float:
    """How many heads a rule would keep if none of them did anything but change examples for better or worse by lot.

    Example:
        >>> gains = np.array([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])  # the second head changes nothing
        >>> round(kept_by_chance(gains, "improves"), 1)
        0.5
    """
    _, drawn = _exchanged(gains)
    least = _NEAR if rule == "improves" else np.quantile(drawn.max(0), 1 - ALPHA, method="higher") + _NEAR
    return float((drawn > least).mean(1).sum())


def _exchanged(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of gains over the root of their squares: of every head, (head,), and under exchanges, (head, flip)."""
    rows = np.nan_to_num(np.atleast_2d(gains))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(rows.shape[1], FLIPS))
    return rows.sum(1) - _NEAR, rows @ signs


def _of_groups(gains: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Gains (head, example) added up over examples that are about one thing: their signs go together."""
    if groups is None:
        return gains
    _, place = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(place, row) for row in np.nan_to_num(gains)])
