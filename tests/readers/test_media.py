"""Images and sound of others: formats by content, sizes before decoding, no error but ours."""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headwise.errors import InputError
from headwise.readers.image import FORMATS, read_image_file
from headwise.readers.limits import file_limits, require_within
from headwise.readers.sound import read_sound
from tests.kit.bombs_sounds import codebooks, ogg


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav(rate: int, *, channels: int = 1, data: bytes = bytes(8), bits: int = 16) -> bytes:
    step = channels * bits // 8
    head = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * step % 2**32, step % 2**16, bits)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + head
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
BAD_IMAGES = {
    "a bomb of pixels": (png(13300, 13300, zlib.compress(bytes(1664 * 13300), 9)), "pixels: 176,890,000"),
    "a bomb above Pillow's own limit": (png(30000, 30000, b"x"), "larger than headwise reads"),
    "one long row": (png(2**31 - 1, 1, b"x"), "larger than headwise reads"),
    "a bomb of text": (
        png(4, 4, b"x", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 * 2**20), 9))),
        "cannot be read as an image",
    ),
    "postscript": (POSTSCRIPT, "cannot be read as an image"),
    "nothing": (b"", "cannot be read as an image"),
    "words": (b"no image", "cannot be read as an image"),
    "a JPEG of many passes": (b"\xff\xd8\xff\xe0" + b"\xff\xda" * 300, "an image"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_that_are_refused(tmp_path: Path, name: str) -> None:
    content, said = BAD_IMAGES[name]
    (tmp_path / "a.png").write_bytes(content)
    begun = time.process_time()
    with pytest.raises(InputError, match=said):
        read_image_file(tmp_path / "a.png")
    assert time.process_time() - begun < 5


def test_an_image_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for suffix in (".png", ".eps", ".ps", ".jpg"):
        (tmp_path / f"a{suffix}").write_bytes(POSTSCRIPT)
        with pytest.raises(InputError):
            read_image_file(tmp_path / f"a{suffix}")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_sound_holds_numbers(tmp_path: Path, odd: float) -> None:
    for channels in (1, 2):
        wave = np.full((100, channels), odd, "float32") * [[1, -1][:channels]]
        soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
        with pytest.raises(InputError, match="values that are no numbers"):
            read_sound(tmp_path / "a.wav")


def test_channels_may_be_as_loud_as_numbers_are(tmp_path: Path) -> None:
    loudest = np.finfo("float32").max
    soundfile.write(tmp_path / "a.wav", np.full((9, 2), loudest, "float32"), 8000, subtype="FLOAT")
    assert (read_sound(tmp_path / "a.wav")[0] == loudest).all()


@pytest.mark.parametrize("format", FORMATS)
def test_formats_are_told_by_content(tmp_path: Path, format: str) -> None:
    Image.new("RGB", (6, 4), (200, 30, 30)).save(tmp_path / "a", format=format)
    (tmp_path / "a").rename(tmp_path / "a.txt")
    assert read_image_file(tmp_path / "a.txt").size == (6, 4)


@pytest.mark.parametrize("format", ["ICO", "PPM", "TGA", "PCX", "ICNS", "PDF"])
def test_other_formats_are_refused(tmp_path: Path, format: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", format=format)
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image_file(tmp_path / "a.png")


def test_limits_are_raised_and_lowered_in_a_block(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    with file_limits(times=1e-4), pytest.raises(InputError, match=r"pixels: 10,000, and the limit is 5,000"):
        read_image_file(tmp_path / "a.png")
    with file_limits(times=1e-4), file_limits(times=2):
        assert read_image_file(tmp_path / "a.png").size == (100, 100)


@pytest.mark.parametrize("times", [0, -1, float("nan"), float("inf"), 1e300, True, "4", None])
def test_a_factor_of_limits_is_a_number(times: object) -> None:
    with pytest.raises(InputError, match="factor of file limits"), file_limits(times=times):
        pass


@pytest.mark.parametrize(
    ("value", "said"), [(10**400, "over 1,000,000,000,000,000"), (7, "7"), (1e300, "over 1,0")]
)
def test_numbers_of_any_size_are_refused_by_us(value: float, said: str) -> None:
    with pytest.raises(InputError, match=f"rows: {said}.*and the limit is 5"):
        require_within(value, 5, "rows", where="here")


BAD_SOUNDS = {
    "a rate of 2 MHz": (wav(1_999_993), "1,999,993 samples per second"),
    "a rate of 2 GHz": (wav(2**31 - 1), "2,147,483,647 samples per second"),
    "a rate of one": (wav(1, data=bytes(400_000)), "1 samples per second"),
    "many channels": (wav(16000, channels=1000, data=bytes(4000)), "channels|cannot be read as sound"),
    "codebooks": (codebooks(255, 22), "values of codebooks"),
    "codebooks behind another stream": (codebooks(9, 18, skip=ogg(7, 0, [b"x"])), "values of codebooks"),
    "codebooks of many dimensions": (codebooks(9, 15, dimensions=9), "values of codebooks"),
    "codebooks behind a damaged page": (codebooks(255, 22, skip=b"OggS"), "cannot be read as sound"),
    "nothing": (b"", "cannot be read as sound"),
    "words": (b"no sound", "cannot be read as sound"),
    "a header alone": (wav(16000)[:30], "cannot be read as sound"),
}


@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_sounds_that_are_refused(tmp_path: Path, name: str) -> None:
    content, said = BAD_SOUNDS[name]
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_sound(tmp_path / "a.wav")


def test_hours_of_silence_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(13):
            file.write(np.zeros(8000 * 300, "int16"))
    with pytest.raises(
        InputError,
        match=r"seconds of sound with 1 channel at 8,000 per second: 3,900, and the limit is 3,600",
    ):
        read_sound(tmp_path / "a.flac")


@pytest.mark.parametrize(
    ("format", "subtype", "minutes"), [("MP3", "MPEG_LAYER_III", 15), ("OGG", "OPUS", 4.6)]
)
def test_how_long_sound_may_be(tmp_path: Path, format: str, subtype: str, minutes: float) -> None:
    """A quarter of an hour of what people record, stereo; the limit is told as a duration."""
    rate, less = (44_100 if format == "MP3" else 48_000), 1000
    soundfile.write(tmp_path / "a", np.zeros((rate, 2), "float32"), rate, format=format, subtype=subtype)
    with file_limits(times=1 / less):
        limit = rf"2 channels at {rate:,} per second: 1, and the limit is {60 * minutes / less:.0f}"
        with pytest.raises(InputError, match=limit):
            read_sound(tmp_path / "a")
    with file_limits(times=1.2 / (60 * minutes)):
        assert len(read_sound(tmp_path / "a")[0])


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_sound_is_the_mean_of_its_channels(tmp_path: Path, format: str) -> None:
    wave = np.sin(np.arange(8000) / 8).astype("float32")
    soundfile.write(tmp_path / "a.raw", np.stack([wave, 0 * wave], 1), 8000, format=format)
    samples, rate = read_sound(tmp_path / "a.raw")
    assert rate == 8000
    assert samples.dtype == np.float32
    assert abs(len(samples) - 8000) < 2500  # MP3 pads
    if format in ("WAV", "FLAC"):
        np.testing.assert_allclose(samples, wave / 2, atol=1e-4)


@pytest.mark.parametrize("reader", [read_image_file, read_sound])
@pytest.mark.parametrize("path", ["", "nowhere", "folder", "/dev/zero", "pipe", "a" * 5000, "a\0b"])
def test_paths_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError):
        reader(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WAV", "FLAC", "OGG"]))
def test_damaged_files_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data, kind: str) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a"
    if kind in FORMATS:
        Image.radial_gradient("L").resize((24, 16)).save(path, format=kind)
    else:
        soundfile.write(path, np.sin(np.arange(4000) / 9), 8000, format=kind)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(InputError):
        read_image_file(path) if kind in FORMATS else read_sound(path)
