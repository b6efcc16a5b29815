"""What a model saw or heard, as pictures for the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headwise.figures import data_uri
from headwise.layout import ImageSpan
from headwise.reports.content.formatting import group_key
from headwise.reports.content.shown_example import Picture, Sound
from headwise.subject.media import read_audio, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from headwise.probes.trace.trace import Trace
    from headwise.reports.collect.shares import KeyShares
    from headwise.subject import Subject

LARGEST = 512
"""Pictures are carried with at most this many pixels a side."""
SMALLEST = 192
RATE = 16_000
DECIBELS = 80
MOST_SOUND = 640_000
"""Bytes of sound that a page carries with an example."""


def picture_of(
    trace: Trace,
    shares: KeyShares,
    number: int,
    given: Mapping[str, Any],
    prepared: Mapping[str, Any] | None,
    subject: Subject | None,
) -> Picture | None:
    """The image of an example with the attention that its positions receive; None where their places are unknown.

    Args:
        trace: what was captured.
        shares: what its keys receive.
        number: of the example in the trace.
        given: what `Subject.prepare` was given for it.
        prepared: what came out of it, which is what the model saw; None to show the picture as it was given.
        subject: whose processor says how pixels were normalised.
    """
    found = _places(trace, shares, number)
    seen = _seen(prepared, subject)
    image = given.get("image")
    first = image[0] if isinstance(image, list) else image
    shown = seen if seen is not None else read_image(first) if first is not None else None
    if shown is None or not found:
        return None
    note = "the picture as the model saw it" if seen is not None else "the picture as it was given"
    tower, (span, grid) = next(iter(found.items()))
    several = sum(other.example == number for other in trace.layout.axes[tower].images)
    if several > 1:
        note += f"; the first of {several}"
    return Picture(
        image=_png(shown),
        note=note,
        grid=grid.shape,
        group=group_key(tower, "self"),
        start=span.start,
        shares=grid,
        places={name: (other.shape, own.start) for name, (own, other) in found.items()},
    )


def _places(trace: Trace, received: KeyShares, number: int) -> dict[str, tuple[ImageSpan, np.ndarray]]:
    """Where the first image of an example lies in every tower, and what its places receive there; text towers first."""
    found = {}
    for tower, axis in sorted(trace.layout.axes.items(), key=lambda item: item[1].tokens is None):
        span = next((s for s in axis.images if s.example == number and s.grid and s.places is None), None)
        heads = [
            share[number].nanmean(0)
            for site, share in received.items()
            if site.kind == "self" and site.tower == tower and len(share) > number
        ]
        if span is None or span.grid is None or not heads or len(axis.roles) != trace.examples:
            continue  # a vision tower whose rows are images or tiles: its row is not the example of this number
        shares = torch.stack(heads).nanmean(0)[span.start : span.start + span.length]
        if len(shares) == span.length:
            found[tower] = (span, shares.nan_to_num(0).reshape(span.grid).numpy())
    return found


def sound_of(given: Mapping[str, Any], start: float = 0.0) -> Sound | None:
    """The sound of an example as a spectrogram on a fixed scale, and as WAV where it is short; None without one.

    Args:
        given: what the user gave, or a window of it.
        start: the second of the recording at which it begins.
    """
    if given.get("audio") is None:
        return None
    import soundfile
    from PIL import Image
    from scipy.signal import spectrogram

    wave = read_audio(given["audio"], RATE)
    _, _, power = spectrogram(wave, fs=RATE, nperseg=min(400, len(wave)), noverlap=min(240, len(wave) // 2))
    level = 10 * np.log10(np.maximum(power, 1e-20) / max(power.max(), 1e-20))
    pixels = ((1 + level / DECIBELS).clip(0, 1) * 255).round().astype(np.uint8)[::-1]
    image = Image.fromarray(pixels)
    image = image.resize((min(image.width, 1200), 160))
    file = BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="PCM_16")
    sound = file.getvalue()
    audio = f"data:audio/wav;base64,{base64.b64encode(sound).decode()}" if len(sound) <= MOST_SOUND else None
    return Sound(_png(image), len(wave) / RATE, RATE / 2, audio, start)


def _seen(prepared: Mapping[str, Any] | None, subject: Subject | None) -> Image | None:
    """The pixels that went into the model, where they are one plain picture; its normalisation undone."""
    from PIL import Image

    pixels = None if prepared is None else prepared.get("pixel_values")
    if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4 or pixels.shape[1] != 3:
        return None
    processor = getattr(subject, "processor", None)
    tool = getattr(processor, "image_processor", processor)
    mean, spread = (
        torch.tensor(getattr(tool, name, None) or neutral).reshape(-1, 1, 1)
        for name, neutral in (("image_mean", [0.0] * 3), ("image_std", [1.0] * 3))
    )
    if getattr(tool, "do_normalize", True) is False:
        mean, spread = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    values = (pixels[0].detach().float().cpu() * spread + mean).clamp(0, 1)
    return Image.fromarray((255 * values).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _png(image: Image) -> str:
    """The picture as an address: without loss where it is small or drawn by us, else as JPEG."""
    from PIL.Image import Resampling

    image = image.copy()
    if image.mode == "RGB":
        image.thumbnail((LARGEST, LARGEST))
    file = BytesIO()
    if image.mode == "RGB" and max(image.size) > SMALLEST:
        image.save(file, format="JPEG", quality=88)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    if image.mode == "RGB":
        factor = -(-SMALLEST // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    image.save(file, format="PNG", optimize=True)
    return data_uri(file.getvalue())
