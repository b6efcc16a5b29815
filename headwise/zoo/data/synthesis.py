"""Speech from text with espeak-ng: samples, and the second at which every word begins."""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes.util import find_library
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from headwise.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

PACKAGE = "espeakng_loader"
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_LIST_ENDS, _WORD = 0, 1


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Speech:
    """What the synthesiser said."""

    samples: Float[np.ndarray, " time"]
    """Between -1 and 1, float32."""
    rate: int
    """Samples per second."""
    starts: tuple[float, ...]
    """Second at which each word that got an event of its own begins."""


class Synthesiser:
    """espeak-ng in this process, for as long as the `with` block lasts.

    The library holds one voice and one buffer per process: use one synthesiser at a time, in one thread.
    The package `espeakng-loader` is taken where it is installed, else the system's library.

    Raises:
        InputError: neither is there, or the library finds no voices.

    Example:
        >>> with Synthesiser() as espeak:  # doctest: +SKIP
        ...     espeak.say("one two", voice="en-us+m3").starts
        (0.024, 0.271)
    """

    def __init__(self) -> None:
        found = _find()
        if found is None:
            raise InputError(
                "There is no speech synthesiser.",
                evidence="espeak-ng",
                remedy="pip install espeakng-loader, or install the system package espeak-ng.",
            )
        path, voices = found
        self._library = ctypes.CDLL(path)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._blocks: list[np.ndarray] = []
        self._starts: list[float] = []
        self._callback = _Callback(self._collect)
        data = None if voices is None else voices.encode()
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
        if self.rate <= 0:
            raise InputError(
                "The speech synthesiser finds no voices.",
                evidence=path,
                remedy="Install espeakng-loader or espeak-ng again.",
            )
        self._library.espeak_SetSynthCallback(self._callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.espeak_SetSynthCallback(None)

    @property
    def version(self) -> str:
        """Version of the library: another one speaks a little differently."""
        return self._library.espeak_Info(None).decode().split()[0]

    def say(
        self, text: str, *, voice: str = "en", speed: int = 175, pitch: int = 50, spread: int = 50
    ) -> Speech:
        """Speak a text.

        Args:
            text: what to say.
            voice: language, and `+variant` if wanted, such as `en-us+f2`.
            speed: words per minute, 80 to 450.
            pitch: 0 to 100.
            spread: how far the pitch moves, 0 (monotone) to 100.

        Raises:
            InputError: there is no such voice, or nothing came out.
        """
        import numpy as np

        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError("espeak-ng has no such voice.", evidence=voice, remedy="See espeak-ng --voices.")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._blocks.clear()
        self._starts.clear()
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        failed = self._library.espeak_Synth(data, size, 0, 0, 0, _UTF8, None, None)
        if failed or not self._blocks:
            raise InputError("espeak-ng said nothing.", evidence=f"{text!r}, {voice}", remedy="Give words.")
        samples = np.concatenate(self._blocks).astype(np.float32) / 32768
        return Speech(samples, self.rate, tuple(self._starts))

    def _collect(self, wave: Any, count: int, events: Any) -> int:
        import numpy as np

        if count > 0 and wave:
            self._blocks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        place = 0
        while events[place].type != _LIST_ENDS:
            if events[place].type == _WORD:
                self._starts.append(events[place].audio_position / 1000)
            place += 1
        return 0


def available() -> bool:
    """True where a synthesiser is installed."""
    return _find() is not None


def _find() -> tuple[str, str | None] | None:
    """Path of the library, and of its voices where they lie beside it."""
    if importlib.util.find_spec(PACKAGE) is not None:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    path = find_library("espeak-ng")
    return None if path is None else (path, None)
