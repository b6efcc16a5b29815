"""Read images and sound from files and arrays."""

from __future__ import annotations

from math import gcd
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.files import check_path

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
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, str | PathLike):
        path = _existing(image)
        try:
            with Image.open(path) as opened:
                return opened.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(
                f"{path} cannot be read as an image.", remedy="Give a PNG or JPEG file."
            ) from error
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
        samples, own_rate = _read_sound(_existing(audio))
    elif isinstance(audio, tuple) and len(audio) == 2:
        samples, own_rate = np.asarray(audio[0], dtype=np.float32), int(audio[1])
    else:
        raise InputError(
            "This sound comes without its rate.", remedy="Give audio=(samples, rate), or a path."
        )
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all() or own_rate <= 0:
        raise InputError(
            "This is not a stretch of sound.",
            evidence=f"shape {samples.shape}, {own_rate} samples per second",
            remedy="Give finite samples of shape (time,).",
        )
    common = gcd(own_rate, rate)
    if own_rate != rate:
        samples = resample_poly(samples, rate // common, own_rate // common)
    return samples.astype(np.float32)


def _read_sound(path: Path) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        return soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise InputError(
            f"{path} cannot be read as sound.", remedy="Give a WAV, FLAC or OGG file."
        ) from error


def _existing(path: str | PathLike[str]) -> Path:
    check_path(path, "the file")
    found = Path(fspath(path))
    if not found.is_file():
        raise InputError(f"There is no file {found}.", remedy="Check the path.")
    return found
