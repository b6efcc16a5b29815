"""Spoken commands with exact word times: what is said, by which voice, and the sound of it.

Splits share neither a voice nor a sentence: every voice variant belongs to one split, and so does every
sentence, by its checksum. The accents (`en`, `en-us`, ...) and the words are the same in all three.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from headwise.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from headwise.zoo.data.synthesis import Synthesiser

Split = Literal["train", "validation", "test"]

VERSION = 1
RATE = 16_000
"""Samples per second."""
SECONDS = 3.0
"""The longest clip, silence included."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNITS = ("minutes", "hours", "seconds")
ROOMS = ("kitchen", "bedroom", "office", "garden")
STATES = ("red", "green", "blue", "yellow", "white", "on", "off")
COMMANDS = (
    "play music",
    "stop music",
    "pause music",
    "volume up",
    "volume down",
    "next song",
    "lights on",
    "lights off",
    "open door",
    "close door",
    "call mother",
    "read message",
    "good morning",
)
WORDS = tuple(
    dict.fromkeys([*DIGITS, "set", "timer", *UNITS, *ROOMS, *STATES, "channel", *" ".join(COMMANDS).split()])
)
"""All that can be said."""

ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-us-nyc", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
VOICES: dict[Split, tuple[str, ...]] = {
    "train": (
        *("m1", "m2", "m3", "m4", "m5", "m6", "f1", "f2", "f4", "Alex", "Alicia", "Andrea", "Andy", "Diogo"),
        *("Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "adam", "anika", "antonio"),
        *("aunty", "benjamin", "boris", "caleb", "ed", "edward", "grandma", "grandpa", "gustave", "iven"),
        *("john", "linda", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob"),
        *("robert", "sandro", "shelby", "steph", "steph2", "travis", "victor", "zac", "edward2", "robosoft"),
        "robosoft3",
    ),
    "validation": ("m8", "f5", "belinda", "Henrique", "announcer"),
    "test": ("m7", "f3", "Annie", "david", "klatt"),
}
"""Voice variants of espeak-ng; klatt2 to klatt6 are left out, as they differ from klatt in little."""

LOOSE = 0.35
"""Share of the training sentences that are words in any order."""
_SALT = 2346
"""Chosen so that every word is said in the training sentences and in the test sentences."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """All that is decided before a clip is spoken."""

    text: str
    voice: str
    """Accent and variant, such as `en-us+m7`."""
    speed: int
    """Words per minute."""
    pitch: int
    """0 to 100."""
    spread: int
    """How far the pitch moves, 0 to 100."""
    lead: float
    """Share of the free time in front of the speech, at most `LEAD` seconds."""
    tail: float
    """Share of the time that is left after the speech."""
    peak: float
    """Largest sample."""
    snr: float
    """Noise that belongs to the clip, in decibels below its speech."""
    seed: int
    """Seed of that noise."""


LEAD = 0.6
"""Longest silence before the speech, in seconds."""


@dataclass(frozen=True)
class Clip:
    """A spoken sentence without noise, 16 kHz, with the time of every word."""

    samples: Float[np.ndarray, " time"] = field(repr=False)
    """float32, between -1 and 1, 16 kHz, cut to its length."""
    words: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]
    """Start and end of every word in seconds; a word ends where the next begins."""
    voice: str
    """Accent and variant, such as `en-us+m7`."""
    snr: float
    """Noise that belongs to the clip, in decibels below its speech."""
    seed: int
    """Seed of that noise."""

    @property
    def text(self) -> str:
        """The words."""
        return " ".join(self.words)

    @property
    def variant(self) -> str:
        """The voice without its accent; the splits share none."""
        return self.voice.partition("+")[2]

    def noisy(self, snr: float | None = None) -> Float[np.ndarray, " time"]:
        """The samples with white noise, always the same.

        Args:
            snr: power of the speech over that of the noise in decibels; the clip's own if None.
        """
        import numpy as np

        first, last = self.spans[0][0], self.spans[-1][1]
        speech = self.samples[int(first * RATE) : int(last * RATE)]
        level = float(np.sqrt(np.mean(speech**2))) * 10 ** (-(self.snr if snr is None else snr) / 20)
        noise = np.random.default_rng(self.seed).standard_normal(len(self.samples))
        return self.samples + (level * noise).astype(np.float32)


def split_of(sentence: str) -> Split:
    """The split a sentence belongs to: two in ten are for test, one in ten for validation.

    Example:
        >>> split_of("set timer nine hours"), split_of("two three")
        ('test', 'train')
    """
    tenth = hashlib.sha256(f"{_SALT} {sentence}".encode()).digest()[0] * 10 // 256
    return "test" if tenth < 2 else "validation" if tenth < 3 else "train"


def sentence(rng: random.Random, split: Split) -> str:
    """A sentence of the split: digits, a timer, lights, a channel, or one or two commands.

    A third of what is said for training are words in any order: without them the decoder learns the few
    sentences by heart, and hears only these.

    Example:
        >>> sentence(random.Random(3), "test")
        'set timer nine hours'
    """
    while True:
        loose = split == "train" and rng.random() < LOOSE
        said = " ".join(rng.choices(WORDS, k=rng.randint(1, 5))) if loose else _sentence(rng)
        if split_of(said) == split:
            return said


def _sentence(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return " ".join(rng.choices(DIGITS, k=rng.randint(2, 5)))
    if kind < 0.6:
        return f"set timer {rng.choice(DIGITS[1:])} {rng.choice(UNITS)}"
    if kind < 0.75:
        return f"{rng.choice(ROOMS)} lights {rng.choice(STATES)}"
    if kind < 0.85:
        return f"channel {rng.choice(DIGITS)} {rng.choice(DIGITS)}"
    return " ".join(rng.sample(COMMANDS, rng.randint(1, 2)))


def script(rng: random.Random, split: Split) -> Script:
    """What to say, and how."""
    return Script(
        text=sentence(rng, split),
        voice=f"{rng.choice(ACCENTS)}+{rng.choice(VOICES[split])}",
        speed=rng.randint(150, 214),
        pitch=rng.randint(25, 74),
        spread=rng.randint(30, 70),
        lead=rng.random(),
        tail=rng.random() ** 2,
        peak=rng.uniform(0.2, 0.8),
        snr=rng.uniform(10, 35),
        seed=rng.getrandbits(31),
    )


def speak(script: Script, synthesiser: Synthesiser) -> Clip | None:
    """The clip of a script; None where it would be too long or words were drawn together into one."""
    import numpy as np
    from scipy.signal import resample_poly

    words = tuple(script.text.split())
    said = synthesiser.say(
        script.text, voice=script.voice, speed=script.speed, pitch=script.pitch, spread=script.spread
    )
    loud = np.nonzero(np.abs(said.samples) > 0.01 * np.abs(said.samples).max())[0]
    spoken = said.samples[: int(loud[-1]) + said.rate // 100]
    free = SECONDS - 0.01 - len(spoken) / said.rate
    if len(said.starts) != len(words) or free < 0.2:
        return None
    lead = script.lead * min(LEAD, free)
    tail = script.tail * (free - lead)
    wave = resample_poly(spoken, RATE, said.rate).astype(np.float32)
    wave *= script.peak / np.abs(wave).max()
    samples = np.pad(wave, (round(lead * RATE), round(tail * RATE)))
    edges = [lead + start for start in said.starts] + [lead + len(spoken) / said.rate]
    spans = tuple((round(start, 3), round(end, 3)) for start, end in pairwise(edges))
    return Clip(samples, words, spans, script.voice, script.snr, script.seed)


def clips(split: Split, n: int, *, seed: int = 0) -> Generator[Clip, None, None]:
    """Speak `n` clips of a split, one after the other.

    Sentences, voices and all of `Script` are the same for the same seed; the samples are so up to the state
    of the synthesiser, which starts a clip where its oscillators stood, and up to its version.

    Raises:
        InputError: n is not positive, or no synthesiser is installed.
    """
    from headwise.zoo.data.synthesis import Synthesiser

    if n < 1:
        raise InputError("There is nothing to say.", evidence=f"n={n}", remedy="Ask for one clip or more.")
    rng = random.Random(f"utterances/{VERSION}/{split}/{seed}")
    made = 0
    with Synthesiser() as synthesiser:
        while made < n:
            clip = speak(script(rng, split), synthesiser)
            if clip is not None:
                made += 1
                yield clip
