"""A spec that was changed after it was written is no spec; one that was written by hand needs no checksum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import headwise as hw
from headwise.fixes.spec.file import parse
from headwise.fixes.spec.parameters import from_entry
from headwise.fixes.spec.specs import spec_text
from tests.tiny import ARCHITECTURES

FIXES = [hw.fixes.ZeroHeads(heads=((0, 1), (1, 2))), hw.fixes.ScaleHeads(heads=((1, 1),), factor=0.5)]


@pytest.fixture(scope="module")
def written() -> bytes:
    return spec_text(FIXES, ARCHITECTURES["llama"].build()).encode()


def _meaning(content: bytes) -> Any:
    """What a spec says; None where it is refused."""
    try:
        envelope = parse(content, where="flipped")
        return envelope.model, envelope.versions, [from_entry(entry) for entry in envelope.fixes]
    except hw.HeadwiseError:
        return None


def _flipped(content: bytes, step: int) -> list[bytes]:
    """The content with one bit changed, every `step`-th bit in turn."""
    bits = range(0, 8 * len(content), step)
    return [
        content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]
        for bit in bits
    ]


def test_one_bit_makes_no_other_spec(written: bytes) -> None:
    whole = _meaning(written)
    assert whole[2] == FIXES
    others = [content for content in _flipped(written, 29) if _meaning(content) not in (None, whole)]
    assert others == []


def test_what_was_changed_is_said_and_what_to_do(written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(written.replace(b'"factor": 0.5', b'"factor": 0.7'))
    with pytest.raises(hw.FixError, match=r"changed since headwise wrote it.*remove the line sha256"):
        hw.load_spec(path)
    content = json.loads(path.read_bytes())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert hw.load_spec(path).fixes[1].factor == 0.7


def test_form_does_not_count(written: bytes) -> None:
    again = json.dumps(dict(reversed(json.loads(written).items())), indent=7).encode()
    assert _meaning(again) == _meaning(written)


@pytest.mark.parametrize("value", ["", None, 1, [], "0" * 64])
def test_a_checksum_is_right_or_is_not_there(written: bytes, value: Any) -> None:
    with pytest.raises(hw.FixError, match="changed since headwise wrote it"):
        parse(json.dumps({**json.loads(written), "sha256": value}).encode(), where="memory")
