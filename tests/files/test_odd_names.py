"""Names that no file can have, for every function that opens one."""

from __future__ import annotations

import pytest

import headwise as hw

READERS = tuple(name for name in hw.__all__ if name.startswith("load"))
NAMES = {
    "long": "a" * 5000,
    "long, with a suffix": "a" * 5000 + ".safetensors",
    "deep": "a/" * 3000,
    "NUL": "a\0b",
    "half a character": "\ud800",
    "device": "/dev/zero",
    "this folder": ".",
    "empty": "",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_no_file_has_is_one_error(reader: str, name: str) -> None:
    with pytest.raises(hw.HeadwiseError):
        getattr(hw, reader)(NAMES[name])
