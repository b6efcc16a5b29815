"""The codebooks of Vorbis sound: a few bytes of a header that a decoder unfolds into tables before the first sample."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from headwise.errors import InputError
from headwise.readers.limits import current_limits, require_within

_PAGES = 10_000
"""Before the first sample; a picture of a cover takes hundreds of them."""
_SETUP = 2**17
"""Bytes of the packet with the codebooks; encoders write some thousand."""
_SYNC = 0x564342
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_vorbis(file: BinaryIO, *, where: str) -> None:
    """Refuse Vorbis in OGG whose codebooks unfold into more than the limits; anything else is left alone.

    Args:
        file: opened at its beginning; its descriptor is left there.
        where: the file, for messages.

    Raises:
        InputError: the codebooks are large, or what stands before the sound is damaged.
    """
    try:
        packets = _packets(file, where)
        if file.read(4) == b"OggS" and next(packets).startswith(b"\1vorbis"):
            next(packets)
            _check_setup(next(packets), where)
    finally:
        os.lseek(file.fileno(), 0, os.SEEK_SET)  # the decoder reads past the buffer


def _packets(file: BinaryIO, where: str) -> Iterator[bytes]:
    """The packets of the first stream, from pages that are whole and in order: a decoder would skip others."""
    file.seek(0)
    parts: list[bytes] = []
    serial, awaited = None, 0
    for count in itertools.count(1):
        require_within(count, _PAGES, "pages before the sound", where=where)
        head = file.read(27)
        if len(head) < 27 or not head.startswith(b"OggS\0"):
            raise _damaged(where)
        flags, own, number, checksum, length = struct.unpack("<5xB8xIIIB", head)
        sizes = file.read(length)
        body = file.read(sum(sizes))
        if _checksum(head[:22] + bytes(4) + head[26:] + sizes + body) != checksum:
            raise _damaged(where)
        serial = own if serial is None else serial
        if own != serial:
            continue
        if number != awaited or bool(flags & 1) != bool(parts):
            raise _damaged(where)
        awaited, at = number + 1, 0
        for size in sizes:
            parts.append(body[at : at + size])
            at += size
            if size < 255:
                yield b"".join(parts)
                parts = []


def _checksum(page: bytes) -> int:
    """That of a page: zlib's polynomial, the other way round."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _check_setup(packet: bytes, where: str) -> None:
    """Go through the codebooks, adding up what each unfolds into before its lengths are read."""
    require_within(len(packet), _SETUP, "bytes of codebooks", where=where)
    at, codes = 8 * 7, 0

    def read(bits: int) -> int:
        nonlocal at
        first, at = at, at + bits
        if at > 8 * len(packet):
            raise _damaged(where)
        return int.from_bytes(packet[first // 8 : (at + 7) // 8], "little") >> first % 8 & (1 << bits) - 1

    for _ in range(read(8) + 1):
        if read(24) != _SYNC:
            raise _damaged(where)
        dimensions, entries = read(16), read(24)
        codes += entries * (dimensions + 1)
        require_within(codes, current_limits().sound_codes, "values of codebooks", where=where)
        if read(1):
            read(5)
            left = entries
            for _ in range(32):
                left -= read(left.bit_length())
        elif read(1):
            for _ in range(entries):
                if read(1):
                    read(5)
        else:
            read(5 * entries)
        if kind := read(4):
            read(64)
            bits = read(4) + 1
            read(1)
            read(bits * (entries * dimensions if kind == 2 else _root(entries, dimensions)))


def _root(entries: int, dimensions: int) -> int:
    """The largest number that `dimensions` times with itself makes at most `entries`."""
    root = int(entries ** (1 / max(1, dimensions))) + 1
    while root**dimensions > entries and root:
        root -= 1
    return root


def _damaged(where: str) -> InputError:
    return InputError(f"{where} cannot be read as sound.", remedy="Give a WAV, FLAC, OGG or MP3 file.")
