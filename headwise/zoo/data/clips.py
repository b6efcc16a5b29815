"""Spoken test clips that come with the package, so that hearing them needs no synthesiser.

Two sets, both of voices and sentences that training never meets: a few examples as FLAC, sample by sample what
was spoken, and a test set large enough for an error rate with an interval, as Opus, one file per voice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.files import replacing
from headwise.zoo.data import utterances
from headwise.zoo.data.utterances import RATE, VERSION, VOICES, Clip

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

FOLDER = Path(__file__).with_name("clips")
INDEX = "clips.json"
_EXAMPLE_SEED, _TEST_SEED = 1, 0
_MARGIN = 0.1
"""Seconds of silence on both sides of an example, and between the stored clips of a voice."""
_COMPRESSION = 0.96
"""Of Opus in libsndfile, 0 to 1: about 14 kbit/s for one channel."""
_BLOCK = 8_000


@dataclass(frozen=True)
class Recorded(Clip):
    """A clip in a file of its own."""

    path: Path


def shipped_clips(folder: Path = FOLDER) -> list[Recorded]:
    """A few clips as FLAC files, to hand to a model as `audio=clip.path`.

    Example:
        >>> clip = shipped_clips()[0]
        >>> clip.path.name, clip.text
        ('m7-1.flac', 'channel five four')
    """
    import soundfile

    found = []
    for row in _index(folder)["examples"]:
        path = folder / row["file"]
        clip = _clip(row, soundfile.read(path, dtype="float32")[0])
        found.append(Recorded(**vars(clip), path=path))
    return found


def held_out(folder: Path = FOLDER) -> list[Clip]:
    """The test set: 70 clips of each of five voices, without noise (`Clip.noisy` adds what belongs to it)."""
    import numpy as np
    import soundfile

    files: dict[str, np.ndarray] = {}
    found = []
    for row in _index(folder)["held_out"]:
        name = row["file"]
        if name not in files:
            files[name] = soundfile.read(folder / name, dtype="float32")[0]
        speech = files[name][row["first"] : row["first"] + row["length"]]
        found.append(_clip(row, np.pad(speech, row["silence"])))
    return found


def write(folder: Path, *, examples: int = 5, held_out: int = 70) -> Path:
    """Speak both sets and write them to an existing folder.

    Args:
        folder: where the sound files and their index are written.
        examples: examples of each voice.
        held_out: clips of each voice in the test set.

    Raises:
        InputError: no synthesiser is installed, or the folder does not exist.
    """
    index = {
        "version": VERSION,
        "rate": RATE,
        "examples": list(_write_examples(folder, examples)),
        "held_out": list(_write_held_out(folder, held_out)),
    }
    with replacing(folder / INDEX) as part:
        rows = [f' "{name}": {_lines(value)}' for name, value in index.items()]
        part.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    return folder


def _write_examples(folder: Path, n: int) -> Iterator[dict[str, Any]]:
    import numpy as np

    numbers: Counter[str] = Counter()
    for clip in _per_voice(n, _EXAMPLE_SEED):
        numbers[clip.variant] += 1
        first, last = _edges(clip)
        speech = np.pad(clip.samples[first:last], round(_MARGIN * RATE))
        name = f"{clip.variant}-{numbers[clip.variant]}.flac"
        _write_sound(folder / name, speech, format="FLAC", subtype="PCM_16")
        shift = _MARGIN - clip.spans[0][0]
        spans = [[round(start + shift, 3), round(end + shift, 3)] for start, end in clip.spans]
        yield {"file": name, **_row(clip), "spans": spans}


def _write_held_out(folder: Path, n: int) -> Iterator[dict[str, Any]]:
    import numpy as np

    gap = np.zeros(round(_MARGIN * RATE), np.float32)
    spoken = list(_per_voice(n, _TEST_SEED))
    for variant in VOICES["test"]:
        name, pieces, place = f"{variant}.ogg", [gap], len(gap)
        for clip in spoken:
            if clip.variant != variant:
                continue
            first, last = _edges(clip)
            pieces += [clip.samples[first:last], gap]
            silence = [first, len(clip.samples) - last]
            yield {"file": name, "first": place, "length": last - first, "silence": silence, **_row(clip)}
            place += last - first + len(gap)
        _write_sound(
            folder / name,
            np.concatenate(pieces),
            format="OGG",
            subtype="OPUS",
            compression_level=_COMPRESSION,
        )


def _per_voice(n: int, seed: int) -> Iterator[Clip]:
    """The first `n` clips of each test voice, in the order of the voices."""
    kept: dict[str, list[Clip]] = {variant: [] for variant in VOICES["test"]}
    spoken = utterances.clips("test", 20 * n * len(kept), seed=seed)
    while any(len(clips) < n for clips in kept.values()):
        clip = next(spoken)
        if len(kept[clip.variant]) < n:
            kept[clip.variant].append(clip)
    spoken.close()
    for clips in kept.values():
        yield from clips


def _edges(clip: Clip) -> tuple[int, int]:
    """First and last sample of the speech."""
    return round(clip.spans[0][0] * RATE), min(round(clip.spans[-1][1] * RATE), len(clip.samples))


def _write_sound(path: Path, samples: Float[np.ndarray, " time"], **options: Any) -> None:
    """Write in blocks: libsndfile's encoders of lossy formats crash on one long stretch."""
    import soundfile

    with replacing(path) as part, soundfile.SoundFile(part, "w", RATE, 1, **options) as sound:
        for first in range(0, len(samples), _BLOCK):
            sound.write(samples[first : first + _BLOCK])


def _row(clip: Clip) -> dict[str, Any]:
    return {
        "text": clip.text,
        "spans": [list(span) for span in clip.spans],
        "voice": clip.voice,
        "snr": round(clip.snr, 1),
        "seed": clip.seed,
    }


def _clip(row: dict[str, Any], samples: Float[np.ndarray, " time"]) -> Clip:
    spans = tuple((start, end) for start, end in row["spans"])
    return Clip(samples, tuple(row["text"].split()), spans, row["voice"], row["snr"], row["seed"])


def _index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def _lines(value: Any) -> str:
    """JSON with one row per line."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
