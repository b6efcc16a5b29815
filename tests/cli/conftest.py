"""A model in a folder, and a path to write to."""

from __future__ import annotations

import pytest

from tests.kit.cli import save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save(tmp_path_factory.mktemp("model")))


@pytest.fixture
def out(tmp_path):
    """A path in an empty folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "report.html"
