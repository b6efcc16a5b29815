"""Images from files: formats by content; dimensions, passes and parts before decoding."""

from __future__ import annotations

import os
import struct
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

from headwise.errors import InputError
from headwise.readers.content import opened, shown
from headwise.readers.limits import current_limits, require_within

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SCANS = 200
"""The most passes of a JPEG; cameras and encoders write up to 20."""
_LARGE_SCANS = 40
"""The same, of one with as many pixels as may be."""
_EXIF = 16
"""Parts of a JPEG with what a camera noted; one is usual."""
_RUNS = 10
"""Pixels that one counts as where Python unpacks them: BMP in runs."""
_NUMBER = 5
"""Parts that a number in the directory of a TIFF counts as."""
_BYTES = (1, 2, 7)
"""Types of a TIFF's values that are kept as they are."""


def read_image_file(path: str | os.PathLike[str]) -> Image:
    """The first frame of an image file, RGB.

    Raises:
        InputError: there is no such file, it is in none of `FORMATS`, it is damaged, or larger than the limits.
    """
    from PIL import Image, UnidentifiedImageError

    limits, where = current_limits(), shown(path)
    with opened(path, limit=limits.image_bytes, what="the image") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes below our own limit
        try:
            scans = _check_parts(file, where)
            parts: Any = _Parts(file, where)
            with Image.open(parts, formats=FORMATS) as picture:
                pixels = picture.width * picture.height
                require_within(max(picture.size), limits.image_side, "pixels along a side", where=where)
                require_within(pixels, limits.pixels, "pixels", where=where)
                require_within(scans, SCANS, "passes", where=where)
                require_within(
                    scans * pixels, _LARGE_SCANS * limits.pixels, "pixels of all passes", where=where
                )
                if picture.tile and picture.tile[0][0] == "bmp_rle":
                    require_within(
                        _RUNS * pixels, limits.pixels, "pixels (of runs one counts as ten)", where=where
                    )
                return picture.convert("RGB")
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{where} is larger than headwise reads, and than Pillow opens.",
                evidence=str(error),
                remedy="Make it smaller.",
            ) from error
        except UnidentifiedImageError as error:
            raise InputError(
                f"{where} cannot be read as an image.", remedy=f"Give one of {', '.join(FORMATS)}."
            ) from error
        except Exception as error:  # Pillow's readers raise whatever their formats make them stumble on
            raise InputError(
                f"{where} cannot be read as an image.",
                evidence=f"{type(error).__name__}: {str(error)[:120]}",
                remedy="Save it again, for example as PNG.",
            ) from error


class _Parts:
    """A picture that is read in no more pieces than it may have: Pillow looks at each of them."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._read, self._where, self._reads, self._most = file.read, where, 0, current_limits().image_parts
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if self._reads > self._most:
            require_within(self._reads, self._most, "parts of the picture", where=self._where)
        return self._read(size)


def _check_parts(file: BinaryIO, where: str) -> int:
    """How many passes a JPEG has; 1 for others. What Pillow works out as it opens a file is bounded here."""
    kind, scans = file.read(4), 1
    if kind[:2] == b"\xff\xd8":
        data = file.read()
        scans = data.count(b"\xff\xda")
        require_within(data.count(b"Exif\0\0"), _EXIF, "parts with notes of a camera", where=where)
    elif kind[:2] in (b"II", b"MM"):
        numbers = _directory_numbers(kind + file.read())
        limit = current_limits().image_parts
        require_within(_NUMBER * numbers, limit, "parts (a number counts as five)", where=where)
    file.seek(0)
    return scans


def _directory_numbers(data: bytes) -> int:
    """Numbers in the first directory of a TIFF, or a BigTIFF."""
    order, large = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    (start,) = struct.unpack_from(f"{order}{'Q' if large else 'L'}", data, 8 if large else 4)
    head, entry = (f"{order}Q", f"{order}HHQ8x") if large else (f"{order}H", f"{order}HHL4x")
    (count,) = struct.unpack_from(head, data, start)
    body = data[start + struct.calcsize(head) :][: count * struct.calcsize(entry)]
    body = body[: len(body) // struct.calcsize(entry) * struct.calcsize(entry)]
    return sum(size for _, kind, size in struct.iter_unpack(entry, body) if kind not in _BYTES)
