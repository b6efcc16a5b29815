"""Small recordings that ask for much: hours of silence, many channels, tables, tags and parts."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.kit.bounded import MEGABYTES


def sound(
    kind: str,
    *,
    seconds: float = 0.1,
    rate: int = 16000,
    channels: int = 1,
    subtype: str | None = None,
    noise: bool = False,
) -> bytes:
    """Silence, or noise, as soundfile writes it."""
    import soundfile

    held, draw = io.BytesIO(), np.random.default_rng(0)
    left, block = int(seconds * rate), 2**20 // channels
    with soundfile.SoundFile(held, "w", rate, channels, subtype, format=kind) as file:
        while left > 0:
            size = (min(block, left), channels)
            file.write(draw.random(size, "float32") if noise else np.zeros(size, "float32"))
            left -= block
    return held.getvalue()


def wav(
    *,
    before: bytes = b"",
    data: bytes = b"",
    size: int | None = None,
    rate: int = 16000,
    channels: int = 1,
    bits: int = 16,
    kind: int = 1,
) -> bytes:
    """A WAV with parts before its samples, whose size may be another than what is told."""
    width = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * width, width, bits)
    size = len(data) if size is None else size
    body = b"WAVE" + head + before + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _many(unit: bytes, less: int = 10_000) -> bytes:
    return unit * ((MEGABYTES - less) // len(unit))


def _flac(channels: int = 1, total: int = 0) -> bytes:
    """The frames of some silence again and again, 10 MB of them, and the length that is told; 0 tells none."""
    whole = bytearray(sound("FLAC", seconds=20, channels=channels))
    whole[21:26] = bytes((whole[21] & 0xF0,)) + total.to_bytes(4, "big")
    frames = bytes(whole[whole.index(b"\xff\xf8") :])
    return bytes(whole) + _many(frames, len(whole))


def _tag(unit: bytes) -> bytes:
    """An ID3 tag of 8 MiB."""
    return b"ID3\3\0\0\4\0\0\0" + (unit * 2**23)[: 2**23]


def ogg(serial: int, number: int, packets: Sequence[bytes], *, first: bool = False) -> bytes:
    """A page of whole packets."""
    sizes = b"".join(b"\xff" * (len(one) // 255) + bytes([len(one) % 255]) for one in packets)
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 2 * first, 0, serial, number, 0, len(sizes))
    page, rest = head + sizes + b"".join(packets), 0
    for byte in page:
        rest ^= byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ 0x04C11DB7 * (rest >> 31)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", rest) + page[26:]


def codebooks(books: int, log: int, *, dimensions: int = 1, skip: bytes = b"") -> bytes:
    """Vorbis whose codebooks have 2 to the `log` entries of one length each, in a few bytes."""
    whole = sound("OGG")
    setup, at = books - 1, 8
    entries = 2**log
    for _ in range(books):
        fields = (
            (0x564342, 24),
            (dimensions, 16),
            (entries, 24),
            (1, 1),
            (log - 1, 5),
            (entries, log + 1),
            (0, 4),
        )
        for value, bits in fields:
            setup, at = setup | value << at, at + bits
    packet = b"\5vorbis" + setup.to_bytes(at // 8 + 9, "little")
    serial = struct.unpack_from("<I", whole, 14)[0]
    comment = b"\3vorbis" + bytes(8) + b"\1"
    return whole[:58] + skip + ogg(serial, 1, [comment]) + ogg(serial, 2, [packet])


SOUNDS: Mapping[str, Callable[[], bytes]] = {
    "WAV: bytes": lambda: wav(data=bytes(MEGABYTES - 100), bits=8),
    "WAV: as many channels as may be": lambda: wav(data=bytes(MEGABYTES - 100), bits=8, channels=64),
    "WAV: more channels": lambda: wav(data=bytes(MEGABYTES - 100), bits=8, channels=1024),
    "WAV: a length that is not there": lambda: wav(data=bytes(100), size=2**32 - 1),
    "WAV: the lowest rate": lambda: wav(data=bytes(MEGABYTES - 100), bits=8, rate=1000),
    "WAV: the highest rate": lambda: wav(data=bytes(MEGABYTES - 100), bits=8, rate=384_000),
    "WAV: an odd rate": lambda: wav(data=bytes(MEGABYTES - 100), bits=8, rate=383_987),
    "WAV: an odd low rate": lambda: wav(data=bytes(3_500_000), bits=8, rate=1009),
    "WAV: empty parts": lambda: wav(before=_many(b"junk\0\0\0\0")),
    "WAV: lists": lambda: wav(before=_many(b"LIST\4\0\0\0INFO")),
    "WAV: a long list": lambda: wav(
        before=b"LIST" + struct.pack("<I", 4 + len(_many(b"INAM\0\0\0\0"))) + b"INFO" + _many(b"INAM\0\0\0\0")
    ),
    "WAV: cues": lambda: wav(before=b"cue " + struct.pack("<II", 9_600_004, 400_000) + bytes(9_600_000)),
    "WAV: formats": lambda: wav(before=_many(b"fmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0")),
    "WAV: samples again and again": lambda: wav(before=_many(b"data\0\0\0\0")),
    "WAV: adaptive": lambda: sound("WAV", seconds=2000, subtype="IMA_ADPCM", rate=8000),
    "WAV: GSM": lambda: sound("WAV", seconds=1000, subtype="GSM610"),
    "WAV: two bits": lambda: sound("WAV", seconds=2000, subtype="NMS_ADPCM_16", rate=8000),
    "FLAC: an hour": lambda: sound("FLAC", seconds=3590),
    "FLAC: eight channels": lambda: sound("FLAC", seconds=620, channels=8),
    "FLAC: as much as may be": lambda: sound("FLAC", seconds=1660, rate=48_000),
    "FLAC: more than may be": lambda: sound("FLAC", seconds=1700, rate=48_000),
    "FLAC: silence": _flac,
    "FLAC: silence of eight channels": lambda: _flac(channels=8),
    "FLAC: silence that tells its length": lambda: _flac(total=16_000 * 3599),
    "FLAC: a length that is not there": lambda: _flac(total=2**32 - 1)[:2000],
    "FLAC: empty parts": lambda: _flac()[:4] + bytes(1) + _flac()[5:42] + _many(b"\1\0\0\0"),
    "FLAC: a comment": lambda: (
        _flac()[:4]
        + bytes(1)
        + _flac()[5:42]
        + b"\x84"
        + (9_900_008).to_bytes(3, "big")
        + struct.pack("<II", 0, 9_900_000 // 4)
        + bytes(9_900_000)
    ),
    "OGG: an hour": lambda: sound("OGG", seconds=3590),
    "OGG: noise": lambda: sound("OGG", seconds=900, rate=48_000, noise=True),
    "OGG: channels": lambda: sound("OGG", seconds=7, rate=48_000, channels=64),
    "OGG: Opus": lambda: sound("OGG", seconds=550, rate=48_000, subtype="OPUS"),
    "OGG: codebooks": lambda: codebooks(255, 22),
    "OGG: codebooks of some size": lambda: codebooks(255, 11),
    "OGG: codebooks of many dimensions": lambda: codebooks(255, 20, dimensions=15),
    "OGG: codebooks behind another stream": lambda: codebooks(255, 22, skip=ogg(7, 0, [b"x"], first=True)),
    "OGG: codebooks behind a damaged page": lambda: codebooks(255, 22, skip=b"OggS\0" + bytes(22)),
    "OGG: pages of a comment": lambda: sound("OGG")[:58] + _many(b"OggS\0" + bytes(22)),
    "OGG: streams": lambda: sound("OGG") * 1500,
    "OGG: empty pages": lambda: sound("OGG") + _many(b"OggS\0\0" + bytes(21)),
    "MP3: an hour": lambda: sound("MP3", seconds=3590),
    "MP3: two channels": lambda: sound("MP3", seconds=810, rate=48_000, channels=2),
    "MP3: tags before it": lambda: _many(b"ID3\3\0\0\0\0\0\0") + sound("MP3"),
    "MP3: a long tag": lambda: _tag(bytes(1)) + sound("MP3"),
    "MP3: a tag of parts": lambda: (
        b"ID3\3\0\0\4\0\0\0" + (b"TIT2\0\0\0\2\0\0\0a" * 10**6)[: 4 << 21] + sound("MP3")
    ),
    "MP3: a tag of comments": lambda: (
        b"ID3\3\0\0\4\0\0\0" + (b"COMM\0\0\0\6\0\0\0eng\0a" * 10**6)[: 4 << 21] + sound("MP3")
    ),
    "MP3: noise": lambda: sound("MP3") + np.random.default_rng(0).bytes(9_000_000),
    "MP3: beginnings of frames": lambda: sound("MP3") + _many(b"\xff\xfb"),
    "MP3: frames of every rate": lambda: sound("MP3") + _many(b"\xff\xfb\x10\x00\xff\xe3\x10\x00"),
}
