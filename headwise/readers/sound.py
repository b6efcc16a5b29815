"""Sound from files: formats by content, rate and length before decoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.readers.content import opened, shown
from headwise.readers.limits import current_limits, require_within
from headwise.readers.vorbis import check_vorbis

if TYPE_CHECKING:
    import numpy as np
    from soundfile import SoundFile

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
RATES = (1_000, 384_000)
"""Samples per second that a recording may have."""
CHANNELS = 64
_QUICK = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "MPEG_LAYER", "VORBIS")
"""How the kinds of samples begin that take at most some 40 ns, from the file to the rate of the model."""
_SLOW = {"OPUS": 3, "GSM610": 4}
"""What a sample of another kind counts as; 2 without an entry."""
_BLOCK = 2**18


def read_sound(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """The mean of the channels of a sound file, (time,) float32, and its samples per second.

    Raises:
        InputError: there is no such file, it is in none of `FORMATS`, it is damaged, holds NaN or infinity, or
            is longer than the limits.
    """
    import numpy as np

    with _opened(path) as (sound, longest):
        blocks: list[np.ndarray] = []
        length = 0
        while len(block := sound.read(_BLOCK // sound.channels, dtype="float32", always_2d=True)):
            if not np.isfinite(block).all():
                raise InputError(
                    f"{shown(path)} holds values that are no numbers.", remedy="Write the sound again."
                )
            blocks.append(block.mean(axis=1, dtype=np.float64).astype(np.float32))
            length += len(block)
            if length > longest:
                _require_length(max(length, sound.frames), longest, sound, where=shown(path))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), sound.samplerate


def sound_length(path: str | os.PathLike[str]) -> tuple[int, int]:
    """How many samples of one channel a sound file says that it has, and how many per second.

    Raises:
        InputError: as `read_sound`, where the beginning of the file shows it.
    """
    with _opened(path) as (sound, longest):
        _require_length(sound.frames, longest, sound, where=shown(path))
        return sound.frames, sound.samplerate


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[SoundFile, int]]:
    """A sound file whose format, rate and channels are as they may be, and how many samples it may have."""
    import soundfile

    limits, where = current_limits(), shown(path)
    with opened(path, limit=limits.sound_bytes, what="the sound") as file:
        check_vorbis(file, where=where)
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                if sound.format not in FORMATS:
                    raise InputError(
                        f"{where} is {sound.format} sound.", remedy="Give a WAV, FLAC, OGG or MP3 file."
                    )
                require_rate(sound.samplerate, where=where)
                require_within(sound.channels, CHANNELS, "channels", where=where)
                weight = 1 if sound.subtype.startswith(_QUICK) else _SLOW.get(sound.subtype, 2)
                most = limits.sound_samples // (weight * sound.channels)
                yield sound, min(most, limits.sound_seconds * sound.samplerate)
        except InputError:
            raise
        except (soundfile.SoundFileError, MemoryError, OverflowError, ValueError) as error:
            raise InputError(
                f"{where} cannot be read as sound.", remedy="Give a WAV, FLAC, OGG or MP3 file."
            ) from error


def _require_length(samples: int, longest: int, sound: SoundFile, *, where: str) -> None:
    several = "s" * (sound.channels > 1)
    what = f"seconds of sound with {sound.channels} channel{several} at {sound.samplerate:,} per second"
    require_within(samples / sound.samplerate, longest / sound.samplerate, what, where=where)


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
