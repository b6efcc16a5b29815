"""Segments of a spectrogram: neighbouring cells that are hidden together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from headwise.optional import extra

Shape = Literal["slic", "grid"]
REFERENCE = 500
"""Frames for which numbers of segments are said: 5 s."""
MOST = 750
"""Frames from which on a longer sound gets no more segments."""
COMPACTNESS = 0.1


def segments(
    spectrogram: Float[np.ndarray, "frame band"], counts: Sequence[int], *, shape: Shape = "slic"
) -> list[Int[np.ndarray, "frame band"]]:
    """The number of every cell's segment, from 0, for every level.

    Args:
        spectrogram: the frames of the sound, without padding.
        counts: segments of each level for 500 frames; a shorter sound gets fewer, one above 750 frames no more.
        shape: `"slic"`: superpixels of scikit-image on the spectrogram between 0 and 1 (compactness 0.1, no
            smoothing), which keep to edges of the sound; there may be fewer than asked for, in noise by far.
            `"grid"`: rectangles.

    Raises:
        InputError: scikit-image is not installed.

    Example:
        >>> [int(level.max()) + 1 for level in segments(np.zeros((500, 80)), [200, 500], shape="grid")]
        [210, 504]
    """
    frames = len(spectrogram)
    wanted = [max(1, round(count * min(frames, MOST) / REFERENCE)) for count in counts]
    if shape == "grid":
        return [rectangles(frames, spectrogram.shape[1], count) for count in wanted]
    slic = extra("skimage.segmentation", "Spectrograms are cut into superpixels", group="saliency").slic
    low, high = spectrogram.min(), spectrogram.max()
    image = (spectrogram - low) / max(high - low, np.finfo(np.float32).tiny)
    options = {"compactness": COMPACTNESS, "sigma": 0, "start_label": 0, "channel_axis": None}
    levels = [slic(image, n_segments=count, **options) for count in wanted]
    return [np.unique(level, return_inverse=True)[1].reshape(level.shape) for level in levels]


def rectangles(frames: int, bands: int, count: int) -> Int[np.ndarray, "frame band"]:
    """About `count` rectangles, as nearly square as they can be.

    Example:
        >>> rectangles(2, 4, 2).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    count = min(count, frames * bands)
    rows = min(max(1, round((count * frames / bands) ** 0.5)), frames)
    columns = min(max(1, round(count / rows)), bands)
    row, column = (np.arange(size) * parts // size for size, parts in ((frames, rows), (bands, columns)))
    return row[:, None] * columns + column
