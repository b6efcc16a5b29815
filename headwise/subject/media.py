"""Read images and sound from files and arrays."""

from __future__ import annotations

from math import gcd
from os import PathLike
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.readers.image import read_image_file
from headwise.readers.sound import read_sound, require_rate

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


def read_image(image: Any) -> Image:
    """An RGB picture from a path, a picture, or an array.

    Args:
        image: path, PIL image, or array of shape (height, width), (height, width, channel) or
            (channel, height, width), uint8 or between 0 and 1.

    Raises:
        InputError: there is no such file, it is no picture, or the array is none of the above.

    Example:
        >>> import numpy as np
        >>> read_image(np.zeros((4, 6, 3), dtype="uint8")).size
        (6, 4)
    """
    import numpy as np
    from PIL import Image

    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, str | PathLike):
        return read_image_file(image)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] in (3, 4)):
        raise InputError(
            "This array is not an image.",
            evidence=f"shape {pixels.shape}",
            remedy="Give (height, width, 3), uint8 or between 0 and 1.",
        )
    if pixels.dtype != np.uint8:
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise InputError(
                "The values of this image are not between 0 and 1.", remedy="Rescale it, or give uint8."
            )
        pixels = (pixels * 255).round().astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def blank_image(image: Any) -> Image:
    """A picture of the same size, all of it in the mean colour: no picture, for a model that must be given one.

    Args:
        image: as for `read_image`.

    Raises:
        InputError: as `read_image`.

    Example:
        >>> import numpy as np
        >>> blank_image(np.array([[[0, 0, 0], [200, 100, 0]]], dtype="uint8")).getpixel((0, 0))
        (100, 50, 0)
    """
    import numpy as np
    from PIL import Image

    picture = read_image(image)
    colour = np.asarray(picture).mean(axis=(0, 1)).round()
    return Image.new("RGB", picture.size, tuple(int(part) for part in colour))


def silence(audio: Any) -> tuple[np.ndarray, int]:
    """Silence of the same length, as samples and their rate.

    Args:
        audio: path, or (samples, rate), as for `read_audio`.

    Raises:
        InputError: there is no such file, or it holds no sound.

    Example:
        >>> import numpy as np
        >>> silence((np.ones(3), 8000))[0].tolist()
        [0.0, 0.0, 0.0]
    """
    import numpy as np

    samples, rate = read_sound(audio) if isinstance(audio, str | PathLike) else audio
    return np.zeros(len(samples), dtype=np.float32), int(rate)


def read_audio(audio: Any, rate: int) -> np.ndarray:
    """One channel of sound at `rate` samples per second, float32.

    Args:
        audio: path, or a pair of samples (time,) or (time, channel) and their rate. Channels are averaged.
        rate: the rate the model listens at; sound at another rate is resampled.

    Raises:
        InputError: there is no such file, it holds no sound, or the array comes without its rate.

    Example:
        >>> import numpy as np
        >>> read_audio((np.zeros(8000), 8000), 16000).shape
        (16000,)
    """
    import numpy as np
    from scipy.signal import resample_poly

    if isinstance(audio, str | PathLike):
        samples, own_rate = read_sound(audio)
    elif isinstance(audio, tuple) and len(audio) == 2:
        samples, own_rate = np.asarray(audio[0], dtype=np.float32), int(audio[1])
        require_rate(own_rate, where="the given samples")
    else:
        raise InputError(
            "This sound comes without its rate.", remedy="Give audio=(samples, rate), or a path."
        )
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all():
        raise InputError(
            "This is not a stretch of sound.",
            evidence=f"shape {samples.shape}, {own_rate} samples per second",
            remedy="Give finite samples of shape (time,).",
        )
    common = gcd(own_rate, rate)
    if own_rate != rate:
        samples = resample_poly(samples, rate // common, own_rate // common)
    return samples.astype(np.float32)
