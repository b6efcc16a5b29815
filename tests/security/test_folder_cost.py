"""No file makes a model folder with 10 MB of weights take a gigabyte or 5 s of a processor before it is refused."""

from __future__ import annotations

import sys

import pytest

from tests.kit.bombs_folders import FAMILIES, FILES
from tests.kit.bounded import call

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc"),
]


@pytest.mark.parametrize("family", [*FAMILIES, FILES])
def test_files_beside_ten_megabytes(family: str) -> None:
    done = call("tests.kit.bombs_folders", family, timeout=500)
    assert done["count"] > 10
    assert not done["faults"], "\n".join(done["faults"])
