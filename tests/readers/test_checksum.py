"""The checksum of JSON files."""

from __future__ import annotations

import json

import pytest

from headwise.errors import InputError
from headwise.readers.checksum import checksum, require_checksum

CONTENT = {"b": [1, 2.5, -0.0, 1e-300, "é\u2028"], "a": {"x": None, "y": True}}


def test_reading_what_was_written_keeps_it() -> None:
    text = json.dumps({**CONTENT, "sha256": checksum(CONTENT)}, indent=2, ensure_ascii=False)
    require_checksum(json.loads(text), where="a.json")


@pytest.mark.parametrize(
    "changed",
    [
        {**CONTENT, "b": [1, 2.5, 0.0, 1e-300, "é\u2028"]},
        {**CONTENT, "b": [1.0, 2.5, -0.0, 1e-300, "é\u2028"]},
        {**CONTENT, "a": {"x": None, "y": 1}},
        {**CONTENT, "c": None},
        {"b": CONTENT["b"]},
    ],
)
def test_other_content_is_refused(changed: dict) -> None:
    with pytest.raises(InputError, match="changed after headwise wrote it"):
        require_checksum({**changed, "sha256": checksum(CONTENT)}, where="a.json")


def test_a_missing_one_is_refused() -> None:
    with pytest.raises(InputError, match="is missing"):
        require_checksum(CONTENT, where="a.json")
