"""How much heads change when part of their input is taken away: per head, per token, and both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.analyses._divergence.measure import Distance, Divergences, Settings, divergences
from headwise.analyses._divergence.parts import Without
from headwise.analyses._divergence.removal import How
from headwise.analyses._heads import HEAD, by_tower, extremes
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.divergence import Deviation, reliance
from headwise.probes.trace.frames import site_columns
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd


def _table(parts: list[pd.DataFrame], found: Divergences) -> pd.DataFrame:
    """The rows of all examples, with what was done to them."""
    from pandas import concat

    frame = concat(parts, ignore_index=True)
    meta = {name: value for name, value in found.meta.items() if name not in ("ids", "returned", "seconds")}
    frame.attrs["provenance"] = {**meta, "examples": int(frame["example"].max()) + 1}
    return frame


def _rows(found: Divergences, example: int) -> pd.DataFrame:
    """One row per head and token of the reply."""
    from pandas import DataFrame, concat

    tokens, positions = found.question.tokens, list(found.question.positions)
    parts = []
    for site, values in found.by_site.items():
        token, head = np.indices(values.shape).reshape(2, -1)
        parts.append(
            DataFrame(
                {
                    "example": example,
                    **site_columns(site),
                    "head": head,
                    "position": np.array(positions)[token],
                    "token": np.array(tokens, dtype=object)[token],
                    "divergence": values.double().cpu().numpy().ravel(),
                    "without": found.reading.what,
                    "how": found.reading.how,
                }
            )
        )
    return concat(parts, ignore_index=True)


def _taken(frame: pd.DataFrame) -> str:
    """What was taken away: "without the image (drop)"."""
    kinds = dict.fromkeys(zip(frame["without"], frame["how"], strict=True))
    return ", ".join(
        f"with another {what}"
        if how == "instead"
        else f"without {what if ' ' in what else f'the {what}'} ({how})"
        for what, how in kinds
    )


def _heads_sentence(frame: pd.DataFrame, distance: str) -> str:
    return by_tower(frame, lambda part: _clause(part, distance))


def _clause(frame: pd.DataFrame, distance: str) -> str:
    _, high = extremes(frame, "divergence")
    if not high[1]:
        return f"{_taken(frame)}, no head changes"
    layers = frame.groupby("layer")["divergence"].mean()
    return (
        f"{_taken(frame)}, heads change by {layers.mean():.3g} on average ({distance} distance), most in layer "
        f"{layers.idxmax()} ({layers.max():.3g}), and of all heads {high[0]} ({high[1]:.3g})"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="divergence",
    unit="distance",
    inputs="subject",
    needs=(),
    description="Distance ({distance}) between a head with part of the input and without it, at the positions that "
    "predict the reply, mean over its tokens; 0 is no change.",
    summary=_heads_sentence,
    title="Head divergence",
)
def head_divergence(
    subject: Any,
    data: Any,
    without: Without | None = None,
    how: How | None = None,
    distance: Distance = "plain",
    generate: int = 16,
    zero_outliers: bool = False,
    deviation: Deviation = "sample",
) -> pd.DataFrame:
    """How much every head changes when the image, the sound, the source or part of the prompt is taken away.

    The model reads a prompt and its reply twice, with and without that part, and heads are compared at the positions
    that predict the tokens of the reply. With the plain distance it is VHD of He et al. 2025 (arXiv 2412.13949).

    Args:
        subject: the model with its processor.
        data: examples: keywords of `Subject.prepare`; and, where wanted, `reply` (text or token ids; `target` of an
            encoder-decoder), `context` (the part of `text` that is one), or `instead` (keywords to exchange for others
            in the second reading, such as another image).
        without: `"image"`, `"sound"`, `"source"` (of an encoder-decoder), `"context"`, or a span of the prompt (of
            the source), `(start, stop)` in positions. What the example has when None: image, sound, context, source.
        how: `"drop"` deletes the positions, `"mask"` hides them from attention, `"blank"` gives a mean-coloured
            picture or silence. When None: drop; for all that an encoder-decoder reads, silence or mask.
        distance: of outputs before W_O, `"plain"` (Euclidean, the paper's), `"relative"` or `"cosine"`; behind W_O,
            `"written"`; of patterns, `"jensen_shannon"` (nats) or `"total_variation"` (share).
        generate: the most tokens of a reply that is not given.
        zero_outliers: set heads to 0 that react to the missing input (Eq. 6), token by token.
        deviation: standard deviation in that rule.

    Returns:
        One row per example and head: `divergence`, the number of `tokens` it is a mean of, and what was taken away.

    Raises:
        InputError: an example lacks what is to be taken away, or it cannot be taken away like that.

    Example:
        >>> import headwise as hw
        >>> subject = hw.load("zoo:vlm")
        >>> found = hw.analyses.head_divergence(subject, [hw.zoo.sample("vlm").inputs], how="mask")
        >>> found.mean().nlargest(2, "divergence")["head"].sort_values().tolist()  # of layer 1
        [2, 3]
    """
    settings = Settings(without, how, distance, generate, zero_outliers, deviation)
    parts = []
    for example, found in enumerate(divergences("head_divergence", subject, data, settings)):
        groups = _rows(found, example).groupby(list(HEAD), sort=False)
        parts.append(
            groups.agg(
                divergence=("divergence", "mean"),
                tokens=("position", "size"),
                without=("without", "first"),
                how=("how", "first"),
            ).reset_index()
        )
    return _table(parts, found)


@analysis(
    kind="matrix",
    axes=("head", "position"),
    keys=(*HEAD, "position"),
    value="divergence",
    unit="distance",
    inputs="subject",
    needs=(),
    description="Distance ({distance}) between a head with part of the input and without it, at the position before "
    "each token of the reply, which predicts it; 0 is no change.",
    summary=lambda frame, distance: by_tower(frame, lambda part: _cell(part, distance)),
    title="Head divergence per token",
)
def reply_divergence(
    subject: Any,
    data: Any,
    without: Without | None = None,
    how: How | None = None,
    distance: Distance = "plain",
    generate: int = 16,
    zero_outliers: bool = False,
    deviation: Deviation = "sample",
) -> pd.DataFrame:
    """How much every head changes at every token of the reply: the table behind `head_divergence`.

    Args:
        subject: the model with its processor.
        data: examples, as for `head_divergence`.
        without: what is taken away.
        how: how.
        distance: of outputs or patterns.
        generate: the most tokens of a reply that is not given.
        zero_outliers: set heads to 0 that react to the missing input (Eq. 6), token by token.
        deviation: standard deviation in that rule.

    Returns:
        One row per example, head and token of the reply, at the `position` of the token that is predicted.

    Raises:
        InputError: as `head_divergence`.
    """
    settings = Settings(without, how, distance, generate, zero_outliers, deviation)
    parts = []
    for example, found in enumerate(divergences("reply_divergence", subject, data, settings)):
        parts.append(_rows(found, example))
    return _table(parts, found)


def _cell(frame: pd.DataFrame, distance: str) -> str:
    top = frame.iloc[int(frame["divergence"].argmax())]
    if not top["divergence"]:
        return f"{_taken(frame)}, no head changes at any token"
    return (
        f"{_taken(frame)}, L{top['layer']}H{top['head']} changes most where {quoted_token(top['token'])} is "
        f"predicted ({distance} distance {top['divergence']:.3g})"
    )


@analysis(
    kind="positions",
    keys=("example", "tower", "kind", "position"),
    value="divergence",
    unit="distance",
    inputs="subject",
    needs=(),
    description="T-VHD of each token of the reply: the sum, over layers, of the largest divergences ({distance}) of a "
    "layer's heads; 0 is a token that does not rest on what was taken away.",
    summary=lambda frame: by_tower(frame, _tokens_sentence),
    title="Token divergence",
)
def token_divergence(
    subject: Any,
    data: Any,
    without: Without | None = None,
    how: How | None = None,
    distance: Distance = "plain",
    generate: int = 16,
    zero_outliers: bool = False,
    deviation: Deviation = "sample",
    k: int | None = None,
) -> pd.DataFrame:
    """How much each token of the reply rests on the image, the sound or another part: T-VHD of He et al. 2025.

    Args:
        subject: the model with its processor.
        data: examples, as for `head_divergence`.
        without: what is taken away.
        how: how.
        distance: of outputs or patterns.
        generate: the most tokens of a reply that is not given.
        zero_outliers: set heads to 0 that react to the missing input (Eq. 6) first.
        deviation: standard deviation in that rule.
        k: heads of each layer that are summed, the largest; an eighth of them, at least one, when None (ours).

    Returns:
        One row per example and token of the reply: `divergence`; `word`, its number in the reply, and
        `word_divergence`, the mean over the tokens of that word.

    Raises:
        InputError: as `head_divergence`; k is not between 1 and the number of heads.
    """
    from pandas import DataFrame

    settings = Settings(without, how, distance, generate, zero_outliers, deviation)
    parts = []
    for example, found in enumerate(divergences("token_divergence", subject, data, settings)):
        sums: dict[tuple[str, str], Any] = {}
        for site, values in found.by_site.items():
            if k is not None and not 1 <= k <= values.shape[-1]:
                raise InputError(
                    f"k is a number of heads of a layer, 1 to {values.shape[-1]}.", evidence=f"k={k}"
                )
            group = (site.tower, site.kind)
            sums[group] = sums.get(group, 0.0) + reliance(values.double(), k=k).cpu().numpy()
        for (tower, kind), divergence in sums.items():
            frame = DataFrame(
                {
                    "example": example,
                    "tower": tower,
                    "kind": kind,
                    "position": found.question.positions,
                    "token": found.question.tokens,
                    "divergence": divergence,
                    "word": found.question.words,
                    "without": found.reading.what,
                    "how": found.reading.how,
                }
            )
            means = frame.groupby("word")["divergence"].transform("mean")
            frame.insert(7, "word_divergence", means)
            parts.append(frame)
    return _table(parts, found)


def _tokens_sentence(frame: pd.DataFrame) -> str:
    ordered = frame.sort_values("divergence")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    if not high["divergence"]:
        return f"{_taken(frame)}, no token of the reply changes"
    most = f"{_taken(frame)}, {quoted_token(high['token'])} changes most (T-VHD {high['divergence']:.3g})"
    return most + (
        f", {quoted_token(low['token'])} least ({low['divergence']:.3g})" if len(frame) > 1 else ""
    )
