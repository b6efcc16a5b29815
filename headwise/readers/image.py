"""Images from files: formats by content, dimensions before decoding."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from headwise.errors import InputError
from headwise.readers.content import opened, shown
from headwise.readers.limits import current_limits, refuse_size, require_within

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SCANS = 200
"""The most passes of a JPEG; cameras and encoders write up to 20."""


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
            with Image.open(file, formats=FORMATS) as picture:
                require_within(picture.width * picture.height, limits.pixels, "pixels", where=where)
                if picture.format == "JPEG":
                    file.seek(0)
                    require_within(file.read().count(b"\xff\xda"), SCANS, "passes", where=where)
                    file.seek(0)
                return picture.convert("RGB")
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            refuse_size(str(error), where=where)
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
