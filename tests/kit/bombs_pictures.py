"""Small pictures that ask for much: more pixels, passes, parts and comments than anybody looks at."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from itertools import repeat

import numpy as np

from tests.kit.bounded import MEGABYTES

SIDE = 7000
"""Of a square of 49 million pixels, which the limit allows."""
Bomb = Callable[[], bytes]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    *parts: bytes, width: int = 1, height: int = 1, depth: int = 8, colour: int = 0, interlaced: int = 0
) -> bytes:
    """A black PNG with other parts before its pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = packed((1 + (width * bits + 7) // 8) * height * (1 + interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def packed(size: int) -> bytes:
    """So many zeros."""
    packer, block = zlib.compressobj(6), bytes(2**20)
    return (
        b"".join(map(packer.compress, repeat(block, size // 2**20)))
        + packer.compress(bytes(size % 2**20))
        + packer.flush()
    )


def filled(*, before: bytes, unit: bytes, after: bytes = b"") -> bytes:
    """10 MB of a unit between two ends."""
    return before + unit * ((MEGABYTES - len(before) - len(after)) // len(unit)) + after


def saved(name: str, mode: str, side: int = SIDE, **options: object) -> bytes:
    """A black square, as Pillow writes it."""
    from PIL import Image

    Image.new(mode, (side, side)).save(held := io.BytesIO(), format=name, **options)
    return held.getvalue()


def jpeg(*, scans: int = 1, side: int = 8, before: bytes = b"", again: int = -1) -> bytes:
    """A progressive JPEG one of whose passes is written again and again, with parts before its first."""
    whole = saved("JPEG", "RGB", side, progressive=True)
    passes = [found.start() for found in re.finditer(b"\xff\xda", whole)]
    ends = [found.start() for found in re.finditer(b"\xff[\xc4\xda\xd9]", whole)]
    start = passes[again]
    end = next(end for end in ends if end > start)
    first = whole.index(b"\xff\xdb")
    return whole[:first] + before + whole[first:-2] + whole[start:end] * (scans - 1) + whole[-2:]


def segment(number: int, data: bytes) -> bytes:
    """A part of a JPEG."""
    return bytes((0xFF, number)) + struct.pack(">H", len(data) + 2) + data


def tiff(entries: Mapping[int, int | tuple[int, int, bytes | int]], *, next_: int = 0) -> bytes:
    """A TIFF of one directory: tag -> a number, or type, count, and a number or bytes that stand behind it."""
    start = 8 + 2 + 12 * len(entries) + 4
    body, rest = b"", b""
    for tag, entry in sorted(entries.items()):
        kind, count, value = (4, 1, entry) if isinstance(entry, int) else entry
        if isinstance(value, bytes):
            place, rest = start + len(rest), rest + value
            value = place
        body += struct.pack("<HHII", tag, kind, count, value)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + struct.pack("<I", next_) + rest


def _strips(number: int, packing: int = 1) -> bytes:
    places = (4, number, np.full(number, 8, "<u4").tobytes())
    return tiff({**SMALL, 256: 40, 257: number, 259: packing, 278: 1, 273: places, 279: places})


def _jpeg_strip(scans: int) -> bytes:
    """A TIFF of one strip, packed as a progressive JPEG."""
    strip, colours = jpeg(scans=scans, side=SIDE), (3, 3, struct.pack("<HHH", 8, 8, 8))
    tags = {256: SIDE, 257: SIDE, 258: colours, 259: 7, 262: 6, 277: 3, 278: SIDE, 273: 0, 279: len(strip)}
    return tiff({**tags, 273: len(tiff(tags))}) + strip


def _tile(side: int) -> bytes:
    return tiff({256: 1, 257: 1, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 100})


def _shared_tags() -> bytes:
    """60,000 tags that all stand for the same megabytes."""
    size = MEGABYTES - 800_000
    start = 8 + 2 + 12 * 60_000 + 4
    body = b"".join(struct.pack("<HHII", 1000 + tag, 7, size, start) for tag in range(60_000))
    return struct.pack("<2sHIH", b"II", 42, 8, 60_000) + body + bytes(4 + size)


def gif(*parts: bytes, width: int = 1, height: int = 1) -> bytes:
    """A GIF with other parts before its picture."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"".join(parts) + _frame(width, height) + b";"


def _frame(width: int, height: int, data: bytes = b"\x02\x44\x01") -> bytes:
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02" + data + b"\x00"


def _frames(name: str) -> bytes:
    from PIL import Image

    frames = [Image.new("P", (1000, 1000), number % 250) for number in range(120)]
    more = {"compression": "tiff_lzw"} if name == "TIFF" else {}
    frames[0].save(held := io.BytesIO(), format=name, save_all=True, append_images=frames[1:], **more)
    return held.getvalue()


def _bmp_runs(*, unit: bytes, side: int, compression: int = 1) -> bytes:
    size = MEGABYTES - 14 - 40 - 1024
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 4 * (3 - compression), compression, 0, 0, 0, 256, 0)
    data = head + bytes(1024) + unit * (size // len(unit))
    return b"BM" + struct.pack("<IHHI", 14 + len(data), 0, 0, 14 + 40 + 1024) + data


def _jpeg_in_pieces(size: int, number: int) -> bytes:
    return jpeg(before=segment(number, bytes(size - 4)) * ((MEGABYTES - 5000) // size))


SMALL = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 279: 1}
"""A TIFF of one pixel."""
FRACTIONS = b"\1\0\0\0" * 2_400_000
MILLION = packed(1_000_000)
PICTURES: Mapping[str, Bomb] = {
    "PNG: zeros without end": lambda: png()[:33] + chunk(b"IDAT", packed(2 * 10**9)) + chunk(b"IEND", b""),
    "PNG: as many pixels as may be": lambda: png(width=SIDE, height=SIDE, depth=16, colour=6),
    "PNG: the same, interlaced": lambda: png(width=SIDE, height=SIDE, depth=16, colour=6, interlaced=1),
    "PNG: as long as may be": lambda: png(height=1_000_000, width=49, depth=16, colour=6),
    "PNG: of one row": lambda: png(width=49_000_000, depth=16, colour=6),
    "PNG: of one column": lambda: png(height=49_000_000, depth=1),
    "PNG: far more pixels": lambda: png()[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + png()[24:],
    "PNG: empty parts": lambda: filled(before=png()[:33], unit=chunk(b"quIz", b""), after=png()[33:]),
    "PNG: empty parts behind the pixels": lambda: filled(
        before=png()[:-12], unit=chunk(b"quIz", b""), after=png()[-12:]
    ),
    "PNG: pixels in small parts": lambda: filled(
        before=png()[:33], unit=chunk(b"IDAT", b""), after=png()[33:]
    ),
    "PNG: a text far too long": lambda: png(chunk(b"zTXt", b"a\0\0" + packed(10**8))),
    "PNG: texts of a megabyte": lambda: png(*(chunk(b"zTXt", b"%d\0\0" % n + MILLION) for n in range(9000))),
    "PNG: international texts": lambda: png(
        *(chunk(b"iTXt", b"%d\0\1\0\0\0" % n + MILLION) for n in range(9000))
    ),
    "PNG: colour profile far too long": lambda: png(chunk(b"iCCP", b"a\0\0" + packed(10**8))),
    "PNG: small texts": lambda: filled(before=png()[:33], unit=chunk(b"tEXt", b"a\0b"), after=png()[33:]),
    "PNG: EXIF that loops": lambda: png(chunk(b"eXIf", tiff({0x8769: 8}, next_=8))),
    "PNG: frames": lambda: _frames("PNG"),
    "JPEG: as many pixels as may be": lambda: saved("JPEG", "CMYK"),
    "JPEG: all of them progressive": lambda: jpeg(side=SIDE),
    "JPEG: passes": lambda: jpeg(scans=190, side=SIDE),
    "JPEG: fewer passes": lambda: jpeg(scans=30, side=SIDE),
    "JPEG: passes over fewer pixels": lambda: jpeg(scans=180, side=3200),
    "JPEG: passes over first bits": lambda: jpeg(scans=30, side=SIDE, again=-4),
    "JPEG: a million passes": lambda: jpeg(scans=400_000),
    "JPEG: empty comments": lambda: _jpeg_in_pieces(4, 0xFE),
    "JPEG: empty applications": lambda: _jpeg_in_pieces(4, 0xE5),
    "JPEG: colour profiles": lambda: _jpeg_in_pieces(6, 0xE2),
    "JPEG: filling": lambda: jpeg(before=b"\xff" * (MEGABYTES - 5000)),
    "JPEG: restarts": lambda: jpeg(before=b"\xff\xd0" * (MEGABYTES // 2 - 5000)),
    "JPEG: tables": lambda: jpeg(
        before=segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * (MEGABYTES // 65_100)
    ),
    "JPEG: Photoshop": lambda: jpeg(
        before=segment(0xED, b"Photoshop 3.0\0" + (b"8BIM\0\1\0\0\0\0\0\0") * 5000) * 160
    ),
    "JPEG: EXIF that loops": lambda: jpeg(
        before=segment(0xE1, b"Exif\0\0" + tiff({0x8769: 8, 0xA005: 8}, next_=8))
    ),
    "JPEG: EXIF of many tags": lambda: jpeg(
        before=segment(0xE1, b"Exif\0\0" + tiff(dict.fromkeys(range(5000), 1))) * 150
    ),
    "JPEG: EXIF of fractions": lambda: jpeg(
        before=segment(0xE1, b"Exif\0\0" + tiff({282: (5, 1_200_000, b""), 296: 2}) + FRACTIONS[:64_000])
        + segment(0xE1, b"Exif\0\0" + FRACTIONS[:65_200]) * 150
    ),
    "JPEG: pictures within": lambda: jpeg(
        before=segment(
            0xE2,
            b"MPF\0" + tiff({0xB000: (7, 4, 0x30303130), 0xB001: 4000, 0xB002: (7, 64000, bytes(64000))}),
        )
    ),
    "WebP: as many pixels as may be": lambda: saved("WEBP", "RGBA", SIDE, lossless=True, method=0, quality=0),
    "WebP: lossy": lambda: saved("WEBP", "RGB", SIDE, method=0, quality=1),
    "WebP: frames": lambda: _frames("WEBP"),
    "GIF: frames": lambda: _frames("GIF"),
    "GIF: as many pixels as may be": lambda: saved("GIF", "P"),
    "GIF: a frame larger than its screen": lambda: gif()[:-8] + _frame(65535, 65535) + b";",
    "GIF: a comment": lambda: filled(
        before=gif()[:19] + b"!\xfe", unit=b"\xff" + b"a" * 255, after=b"\0" + gif()[19:]
    ),
    "GIF: a comment in letters": lambda: filled(
        before=gif()[:19] + b"!\xfe", unit=b"\1a", after=b"\0" + gif()[19:]
    ),
    "GIF: comments": lambda: filled(before=gif()[:19], unit=b"!\xfe\1a\0", after=gif()[19:]),
    "GIF: empty extensions": lambda: filled(before=gif()[:19], unit=b"!\xf9\0", after=gif()[19:]),
    "GIF: no parts": lambda: filled(before=gif()[:19], unit=b"\0", after=gif()[19:]),
    "GIF: pixels letter by letter": lambda: filled(
        before=gif(width=7000, height=7000)[:19] + _frame(7000, 7000)[:11], unit=b"\1\x44", after=b"\0;"
    ),
    "BMP: as many pixels as may be": lambda: _bmp_runs(unit=b"\xff\0", side=SIDE),
    "BMP: runs of one": lambda: _bmp_runs(unit=b"\1\0", side=SIDE),
    "BMP: runs of nothing": lambda: _bmp_runs(unit=b"\0\0", side=2000),
    "BMP: rows that end early": lambda: _bmp_runs(unit=b"\1\0\0\0", side=SIDE),
    "BMP: rows that end early, fewer": lambda: _bmp_runs(unit=b"\1\0\0\0", side=2200),
    "BMP: runs of four bits": lambda: _bmp_runs(unit=b"\xff\0", side=2200, compression=2),
    "BMP: steps": lambda: _bmp_runs(unit=b"\0\2\1\0", side=2200),
    "BMP: far more": lambda: (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "BMP: a palette": lambda: (
        b"BM"
        + struct.pack(
            "<IHHIIiiHHIIiiII", MEGABYTES, 0, 0, MEGABYTES - 4, 40, 1, 1, 1, 8, 0, 0, 0, 0, 2**31, 0
        )
        + bytes(MEGABYTES - 54)
    ),
    "TIFF: as many pixels as may be": lambda: saved("TIFF", "RGBA", compression="tiff_adobe_deflate"),
    "TIFF: whole numbers": lambda: saved("TIFF", "I", compression="tiff_adobe_deflate"),
    "TIFF: LZW": lambda: saved("TIFF", "CMYK", compression="tiff_lzw"),
    "TIFF: Zstandard": lambda: saved("TIFF", "F", compression="zstd"),
    "TIFF: fax": lambda: saved("TIFF", "1", compression="group4"),
    "TIFF: a JPEG of passes": lambda: _jpeg_strip(80),
    "TIFF: a JPEG of more passes": lambda: _jpeg_strip(190),
    "TIFF: strips": lambda: _strips(1_240_000),
    "TIFF: strips, packed": lambda: _strips(90_000, packing=8),
    "TIFF: one tile": lambda: _tile(2**16),
    "TIFF: a larger tile": lambda: _tile(2**30),
    "TIFF: shared tags": _shared_tags,
    "TIFF: a long tag": lambda: tiff({**SMALL, 258: (3, 4_900_000, bytes(9_800_000))}),
    "TIFF: long tags": lambda: tiff(SMALL | dict.fromkeys(range(40000, 40100), (1, 90000, b"\x88" * 90000))),
    "TIFF: fractions": lambda: tiff({**SMALL, 282: (5, 1_200_000, FRACTIONS)}),
    "TIFF: fractions, larger": lambda: (
        struct.pack("<2sHHHQQHHQQQ", b"II", 43, 8, 0, 16, 1, 282, 5, 1_200_000, 44, 0) + FRACTIONS
    ),
    "TIFF: directories that loop": lambda: tiff({**SMALL, 330: 8, 34665: 8}, next_=8),
    "TIFF: pages": lambda: _frames("TIFF"),
}
