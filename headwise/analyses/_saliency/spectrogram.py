"""Saliency of time and frequency of a sound, for every token that is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._saliency.examples import Asked, explained_examples, provenance
from headwise.analyses.record import analysis
from headwise.errors import InputError
from headwise.functional.explained import Target
from headwise.functional.perturbation import Scale
from headwise.layout.audio import input_seconds
from headwise.probes.reply import Question
from headwise.saliency.masks import Filling, Progress, Spes, perturbed
from headwise.saliency.segments import Shape
from headwise.saliency.sound import Sound, sound_of
from headwise.text import quoted_token

if TYPE_CHECKING:
    import pandas as pd

Per = Literal["token", "word", "reply"]


def _summary(frame: pd.DataFrame, masks: int) -> str:
    clock = "frame" if frame["seconds"].isna().any() else "seconds"
    sums = frame.assign(size=frame["saliency"].clip(lower=0)).groupby(clock)["size"].sum()
    edges = np.searchsorted(sums.cumsum().to_numpy(), np.array([0.25, 0.75]) * float(sums.sum()))
    early, late = (_when(float(sums.index.to_numpy()[edge]), clock) for edge in edges.clip(max=len(sums) - 1))
    top = frame.iloc[int(frame["saliency"].to_numpy().argmax())]
    return (
        f"With {masks} masks, half of the saliency lies between {early} and {late}; the largest is "
        f"{top['saliency']:.3g}, of band {top['band']} at {_when(top[clock], clock)} for {quoted_token(top['token'])}."
    )


def _when(time: float, clock: str) -> str:
    return f"{time:.2f} s" if clock == "seconds" else f"frame {time:.0f}"


@analysis(
    kind="matrix",
    axes=("band", "frame"),
    keys=("example", "position", "frame", "band"),
    value="saliency",
    unit="score",
    inputs="subject",
    needs=(),
    description="What the written token loses ({target}) when a cell of the spectrogram is hidden, mean over the masks "
    "that hide it ({scale}).",
    summary=_summary,
    running=("batch_size", "folder", "progress"),
    title="Saliency of a spectrogram",
)
def spectrogram_saliency(
    subject: Any,
    data: Any,
    target: Target = "kl",
    masks: int = 1000,
    levels: tuple[int, ...] = (200, 500),
    hide: float = 0.5,
    shape: Shape = "slic",
    filling: Filling = "mean",
    scale: Scale = "above mean",
    per: Per = "token",
    blocks: tuple[int, int] = (1, 1),
    seed: int = 0,
    batch_size: int = 16,
    generate: int = 16,
    folder: str | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """How much every cell of a spectrogram counts for every token that is written: SPES (arXiv 2411.01710).

    Args:
        subject: a model that hears a spectrogram and writes, with its processor.
        data: examples: `audio` and other keywords of `Subject.prepare`, and where wanted `target` (the reply) and `id`.
        target: what a token loses: `"kl"`, the divergence of its row from the unchanged one (nats, as published), or
            its `"log_probability"` or `"logit"`.
        masks: perturbed copies of the sound, spread evenly over the levels; the paper has 20,000.
        levels: segments of each level for 500 frames; the paper has 2,000, 2,500 and 3,000 on 80 bands.
        hide: chance of a segment to be hidden by a mask.
        shape: of the segments: `"slic"`, superpixels (needs scikit-image), or `"grid"`, rectangles.
        filling: what takes the place of hidden cells: the `"mean"` of their band, `"zero"` (as released; a mean of
            features that are normalised), or the `"floor"` of the sound.
        scale: `"above mean"` (0 where nothing counts), `"raw"`, or `"standard"` (z-scores per token).
        per: `"token"`, or means over the tokens of a `"word"` or of the whole `"reply"`.
        blocks: frames and bands that become one row, with the largest value of them.
        seed: of the masks.
        batch_size: copies that are heard side by side; it changes nothing but the time.
        generate: the most tokens of a reply that is not given.
        folder: a folder for what was measured so far: a run that is stopped goes on from there, to the same result.
        progress: told after every batch how many masks of all examples are done, and of how many.

    Returns:
        One row per token, frame and band: `id`, the `token` at `position`, `frame` (the first of its block) and when it
        begins in `seconds`, `band`, the `source` position of the encoder that it belongs to, and `saliency`.

    Raises:
        InputError: the model hears no spectrogram, a sound is silent, an option gives no map, or the folder holds the
            run of another model or sound, or with other options.

    Example:
        >>> import headwise as hw
        >>> spoken = hw.zoo.sample("speech").inputs
        >>> found = hw.analyses.spectrogram_saliency(
        ...     hw.load("zoo:speech"), [spoken], masks=32, shape="grid", blocks=(21, 20), per="reply"
        ... )
        >>> found.frame.shape[0], found.frame["saliency"].idxmax() > 0
        (16, True)
    """
    from pandas import concat

    options = Spes(masks=masks, levels=levels, hide=hide, shape=shape, filling=filling, seed=seed)
    _check(blocks, batch_size)
    place = None if folder is None else Path(folder)
    if place is not None:
        place.mkdir(exist_ok=True)
    examples = list(
        explained_examples(subject, data, Asked(target, "input", generate), "spectrogram_saliency")
    )
    parts = []
    for number, (name, example) in enumerate(examples):

        def on_progress(done: int, total: int, before: int = number) -> None:
            if progress is not None:
                progress(before * total + done, len(examples) * total)

        sound = sound_of(example)
        file = None if place is None else place / f"{number}.safetensors"
        found = perturbed(sound, options, batch=batch_size, path=file, progress=on_progress)
        part = _table(sound, found.map(scale), per, blocks)
        part.insert(0, "id", name)
        part.insert(0, "example", number)
        parts.append(part)
    frame = concat(parts, ignore_index=True)
    frame.attrs["provenance"] = provenance(example, len(examples))
    return frame


def _check(blocks: tuple[int, int], batch_size: int) -> None:
    if len(blocks) != 2 or min(*blocks, batch_size) < 1:
        raise InputError(
            "Blocks are so many frames by so many bands, one or more each, and a batch has one copy or more.",
            evidence=f"blocks={blocks}, batch_size={batch_size}",
            remedy="For example blocks=(2, 8).",
        )


def _table(
    sound: Sound, values: Float[Tensor, "token frame band"], per: Per, blocks: tuple[int, int]
) -> pd.DataFrame:
    """One row per written token (or word) and block of cells."""
    from pandas import DataFrame

    question = sound.example.question
    position, texts, values = _written(question, values, per)
    high, wide = blocks
    padding = (0, -values.shape[2] % wide, 0, -values.shape[1] % high)
    full = torch.nn.functional.pad(values, padding, value=-torch.inf)
    values = full.unflatten(2, (-1, wide)).unflatten(1, (-1, high)).amax((2, 4))
    token, row, column = (index.ravel() for index in np.indices(values.shape))
    step = input_seconds(question.subject.model, question.subject.processor)
    first = row * high
    source = np.searchsorted(sound.windows[:, 1].numpy(), first, side="right")
    return DataFrame(
        {
            "tower": "encoder",
            "position": np.array(position)[token],
            "token": np.array(texts, dtype=object)[token],
            "frame": first,
            "seconds": first * (np.nan if step is None else step),
            "band": column * wide,
            "source": source,
            "saliency": values.flatten().numpy(),
        }
    )


def _written(
    question: Question, values: Float[Tensor, "token frame band"], per: Per
) -> tuple[list[int], list[str], Tensor]:
    """Position, text and map of every token, or means over those of a word or of the reply."""
    groups = {"token": range(len(question.reply)), "word": question.words, "reply": [0] * len(question.reply)}
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups[per]):
        members.setdefault(group, []).append(place)
    tokens = question.tokens
    texts = ["".join(tokens[place] for place in places) for places in members.values()]
    first = [question.positions[places[0]] for places in members.values()]
    return first, texts, torch.stack([values[places].mean(0) for places in members.values()])
