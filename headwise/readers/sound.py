"""Sound from files: formats by content, rate and length before decoding."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.readers.content import opened, shown
from headwise.readers.limits import current_limits, require_within

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
RATES = (1_000, 384_000)
"""Samples per second that a recording may have."""
CHANNELS = 64
_BLOCK = 2**18


def read_sound(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """The mean of the channels of a sound file, (time,) float32, and its samples per second.

    Raises:
        InputError: there is no such file, it is in none of `FORMATS`, it is damaged, or longer than the limits.
    """
    import numpy as np
    import soundfile

    limits, where = current_limits(), shown(path)
    with opened(path, limit=limits.sound_bytes, what="the sound") as file:
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                if sound.format not in FORMATS:
                    raise InputError(
                        f"{where} is {sound.format} sound.", remedy="Give a WAV, FLAC, OGG or MP3 file."
                    )
                require_rate(sound.samplerate, where=where)
                require_within(sound.channels, CHANNELS, "channels", where=where)
                longest = min(limits.sound_samples, limits.sound_seconds * sound.samplerate)
                blocks: list[np.ndarray] = []
                length = 0
                while len(block := sound.read(_BLOCK // sound.channels, dtype="float32", always_2d=True)):
                    blocks.append(block.mean(axis=1))
                    length += len(block)
                    if length > longest:
                        seconds = max(length, sound.frames) / sound.samplerate
                        require_within(seconds, longest / sound.samplerate, "seconds of sound", where=where)
                return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), sound.samplerate
        except InputError:
            raise
        except (soundfile.SoundFileError, MemoryError, OverflowError, ValueError) as error:
            raise InputError(
                f"{where} cannot be read as sound.", remedy="Give a WAV, FLAC, OGG or MP3 file."
            ) from error


def require_rate(rate: int, *, where: str) -> None:
    """Refuse a number of samples per second that no recording has.

    Raises:
        InputError: it is outside `RATES`.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"The sound has {rate:,} samples per second.",
            evidence=where,
            remedy=f"Give sound with {RATES[0]:,} to {RATES[1]:,}.",
        )
